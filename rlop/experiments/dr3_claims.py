"""The claims of DR3, each with the measure and the band that decide it.

Written before the runs that decide (2026-11-26). Seeds 101 to 108 report; seeds 1 and 2 choose
coefficients, from grids of the same size for every method, by the average return of the training.
A measure is one number a seed, paired where two arms are compared (same seed, same data, same
initialization). Its verdict is that of the 95 % Student-t interval over the eight seeds: inside the
band `holds`, outside `contradicted`, else `undecided`.

With f_T the value at the last of T evaluations and phi . phi' the mean dot product of consecutive
features on a fixed batch of the data (terminal transitions left out):

1. *Out of sample, the dot product rises.* log of phi . phi' at the end over that of SARSA, same
   seed, is above 0 for the max backup and for a' drawn from a cloned or the known behavior policy;
   end / half of the training is above 1.1 for max, and within [.8, 1.25] for SARSA and
   Monte-Carlo ("flat"); end / half of the mean Q of the data is within [.8, 1.25] for max ("Q
   converges"). The raw dot product grows with the features' norm, so the cosine is shown beside it.
2. *Return falls as the dot product rises.* Without DR3, mean return of the last third less that of
   the middle third of the evaluations is below 0, where end / half of the dot product is above 1.
3. *R_TD predicts the drift.* At trained networks, the cosine between predicted and simulated drift
   is at least .95; that of the supervised part alone, the control, is not.
4. *The covariance of label noise and the identity do equally well.* Average return under the one
   less that under the other, at equal coefficients, contains 0: reported as a difference, with its
   interval inside +-10 % of the plain agent's average return called `holds`.
5. *Stop-gradient is slightly worse.* Average return with it less that without, at equal
   coefficients, is below 0.
6. *DR3 improves average, final return and stability.* With the coefficient chosen on the tuning
   seeds, average and final return (mean of the last two evaluations) less the plain agent's are
   above 0, and the loss from the peak (peak less final) less the plain agent's is below 0.
7. *The rank does not collapse with DR3.* Log ratio of srank, with over without, at the chosen
   coefficient, is at least log .95; the whole range of coefficients is shown.
8. *DR3 does better than the srank penalty.* Average and final return with DR3 less those with the
   penalty, each at the coefficient that its own tuning seeds chose among four, are above 0.

Reference: Kumar et al., "DR3: Value-Based Deep Reinforcement Learning Requires Explicit
Regularization", ICLR 2022, arXiv:2112.04716: section 3.1 (1, 2), 3.2 (3), figure on covariances (4),
table A.1 (5), section 5 (6 to 8).
"""
