"""Tables, figures and statistics of finished trainings."""
