// The legend isolates a group: a second click shows all groups again.
(() => {
  const buttons = document.querySelectorAll("button[data-group]");
  let shown = "";
  const show = () => {
    for (const part of document.querySelectorAll(".run")) {
      part.classList.toggle("faded", shown !== "" && !part.classList.contains(shown));
    }
    for (const button of buttons) {
      button.setAttribute("aria-pressed", String(button.dataset.group === shown));
    }
  };
  for (const button of buttons) {
    button.addEventListener("click", () => {
      shown = shown === button.dataset.group ? "" : button.dataset.group;
      show();
    });
  }
})();
