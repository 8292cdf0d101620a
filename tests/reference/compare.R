# Model comparisons for course_lib.compare and course_lib.exact_test.
# Run in the repository root:  Rscript tests/reference/compare.R     (about 3 minutes)
# Writes tests/reference/compare.json.
#
# anova:     lme4's anova() of ML fits, and of REML fits with the same fixed part.
# bootstrap: pbkrtest::PBmodcomp, for tests with a p-value that 1,000 or more draws can tell. Its
#            own p is (1 + n_extreme) / (1 + n_positive): it leaves out the draws at zero.
# exact:     RLRsim::exactRLRT (a statistic that is zero up to rounding gets a p-value as if it
#            were positive: dyestuff2), and quantiles of the null distribution it simulates.
suppressMessages({
  library(lme4)
  library(pbkrtest)
  library(RLRsim)
  library(jsonlite)
})
tight <- lmerControl(optimizer = "bobyqa", optCtrl = list(rhoend = 1e-10, maxfun = 1e5),
                     calc.derivs = FALSE, check.conv.singular = "ignore")
fit <- function(formula, d, reml) lmer(formula, d, REML = reml, control = tight)
orthodont <- as.data.frame(nlme::Orthodont)
slope <- c("(1 | Subject)", "(Days || Subject)", "(Days | Subject)")

comparisons <- list(
  sleepstudy = list(d = sleepstudy, r = paste("Reaction ~ Days +", slope), reml = c(FALSE, TRUE)),
  orthodont = list(d = orthodont, reml = FALSE,
                   r = c("distance ~ 1 + (1 | Subject)", "distance ~ age + (1 | Subject)",
                         "distance ~ age * Sex + (1 | Subject)",
                         "distance ~ age * Sex + (age | Subject)")),
  pastes = list(d = Pastes, reml = c(FALSE, TRUE),
                r = paste("strength ~ 1 +", c("(1 | batch:cask)", "(1 | batch/cask)")))
)
anova_of <- function(name, reml) {
  case <- comparisons[[name]]
  fits <- lapply(case$r, function(f) fit(as.formula(f), case$d, reml))
  # it cannot tell names from a list, and says so
  table <- suppressWarnings(do.call(anova, c(unname(fits), list(refit = FALSE))))
  # anova() sorts by the number of parameters; so do the formulas above
  list(data = name, reml = reml, formulas = case$r, npar = table$npar, aic = table$AIC,
       bic = table$BIC, llf = table$logLik, statistic = table$Chisq, df = table$Df,
       p = table[["Pr(>Chisq)"]])
}
anovas <- list()
for (name in names(comparisons)) for (reml in comparisons[[name]]$reml) {
  anovas <- c(anovas, list(anova_of(name, reml)))
}

boot_of <- function(name, d, reduced, full, n) {
  set.seed(1)  # PBmodcomp's own `seed` does not make it repeat
  pb <- suppressWarnings(suppressMessages(
    PBmodcomp(fit(full, d, FALSE), fit(reduced, d, FALSE), nsim = n, cl = 1)))
  draws <- as.numeric(pb$ref)
  cat(name, "bootstrap", pb$test$p.value[2], "of", sum(draws > 0), "positive draws\n")
  list(data = name, reduced = deparse(reduced), full = deparse(full), n_sim = n,
       n_positive = sum(draws > 0), statistic = pb$test$stat[1], p_chi2 = pb$test$p.value[1],
       p = pb$test$p.value[2], n_extreme = sum(draws >= pb$test$stat[1]))
}
bootstraps <- list(
  boot_of("orthodont", orthodont, distance ~ age + (1 | Subject),
          distance ~ age + (age | Subject), 3000),
  boot_of("pastes", Pastes, strength ~ 1 + (1 | batch:cask), strength ~ 1 + (1 | batch/cask),
          2000)
)

# `nsim` draws give quantiles to about 1 %; grid and range are finer than RLRsim's default.
n_exact <- 1e5
probs <- c(.6, .7, .8, .9, .95, .99)
exact_of <- function(name, d, formula) {
  m <- fit(formula, d, TRUE)
  set.seed(1)
  test <- exactRLRT(m, nsim = n_exact, gridlength = 400, log.grid.lo = -12)
  draws <- RLRTSim(getME(m, "X"), as.matrix(getME(m, "Z")), qr(getME(m, "X")),
                   diag(ncol(getME(m, "Z"))), nsim = n_exact, seed = 2, gridlength = 400,
                   log.grid.lo = -12)
  cat(name, "exact", test$statistic, test$p.value, "zero", mean(draws == 0), "\n")
  list(data = name, formula = deparse(formula), n_sim = n_exact,
       statistic = unname(test$statistic), p = unname(test$p.value),
       p_zero = mean(draws == 0), probs = probs, quantiles = unname(quantile(draws, probs)))
}
pastes_gaps <- Pastes[-c(1:5, 8, 9, 14, 20, 25, 26, 31:34, 47, 55, 60), ]
unbalanced <- sleepstudy[-c(1:7, 15:19, 31:33, 50:58, 100, 120:125, 151, 160:166), ]
exacts <- list(
  exact_of("dyestuff", Dyestuff, Yield ~ 1 + (1 | Batch)),
  exact_of("dyestuff2", Dyestuff2, Yield ~ 1 + (1 | Batch)),
  exact_of("pastes", Pastes, strength ~ 1 + (1 | batch)),
  exact_of("penicillin_plates", subset(Penicillin, sample %in% c("A", "F")),
           diameter ~ sample + (1 | plate)),
  exact_of("pastes_gaps", pastes_gaps, strength ~ 1 + (1 | batch)),
  exact_of("pastes_half", Pastes[seq(2, 60, 2), ], strength ~ 1 + (1 | batch)),
  exact_of("sleepstudy_slope", unbalanced, Reaction ~ Days + (0 + Days | Subject))
)

packages <- c("lme4", "nlme", "pbkrtest", "RLRsim", "jsonlite")
head <- list(
  made_by = "tests/reference/compare.R", date = format(Sys.Date()),
  r = paste(R.version$major, R.version$minor, sep = "."),
  packages = lapply(setNames(packages, packages), function(p) as.character(packageVersion(p)))
)
json <- function(x) toJSON(x, digits = NA, auto_unbox = TRUE, na = "null")
block <- function(name, rows) {
  paste0(" \"", name, "\": [\n  ", paste(vapply(rows, json, ""), collapse = ",\n  "), "\n ]")
}
writeLines(c("{", paste0(" \"head\": ", json(head), ","),
             paste(c(block("anova", anovas), block("bootstrap", bootstraps),
                     block("exact", exacts)), collapse = ",\n"), "}"),
           file.path("tests", "reference", "compare.json"))
