# Reference values for course_lib.convergence, course_lib.diagnostics and course_lib.influence.
# Run in the repository root:  Rscript tests/reference/diagnostics.R     (about 1 minute)
# Writes tests/reference/diagnostics.json. Needs r-cran-lme4, -nlme, -performance, -jsonlite.
#
# models:     isSingular, rePCA, hatvalues, rstudent,
#             performance::icc and r2 (null where performance gives NA: singular fits)
# influence:  cooks.distance(influence(fit, group)), as lme4 computes it (its refits stop early),
#             and the same from refits with a tight tolerance
# all_fit:    criteria that lme4's optimisers reach at their default tolerances
# shapiro:    shapiro.test of standardised residuals and of conditional modes
suppressMessages({
  library(lme4)
  library(performance)
  library(jsonlite)
})
tight <- lmerControl(optimizer = "bobyqa", optCtrl = list(rhoend = 1e-10, maxfun = 1e5),
                     calc.derivs = FALSE, check.conv.singular = "ignore")
# bobyqa, started anew from where it ended until it gains nothing. The call holds values, not
# names, so that influence() and performance can evaluate it anywhere.
fit_tight <- function(formula, d, reml) {
  m <- do.call(lmer, list(formula, d, REML = reml, control = tight))
  repeat {
    again <- update(m, start = getME(m, "theta"))
    gain <- deviance(m, REML = reml) - deviance(again, REML = reml)
    m <- again
    if (gain < 1e-10) return(m)
  }
}
# Levels sorted as text, as the course library does
as_sorted <- function(d, columns) {
  for (column in columns) {
    d[[column]] <- factor(as.character(d[[column]]),
                          levels = sort(unique(as.character(d[[column]])), method = "radix"))
  }
  d
}
orthodont <- as_sorted(as.data.frame(nlme::Orthodont), "Subject")
oxboys <- as_sorted(as.data.frame(nlme::Oxboys), "Subject")
pastes <- transform(Pastes, cask = factor(paste0(batch, cask)))
specs <- list(
  list("sleepstudy", sleepstudy, "Reaction ~ Days + (Days | Subject)", TRUE),
  list("sleepstudy", sleepstudy, "Reaction ~ Days + (Days | Subject)", FALSE),
  list("sleepstudy", sleepstudy, "Reaction ~ Days + (Days || Subject)", TRUE),
  list("sleepstudy", sleepstudy, "Reaction ~ Days + (1 | Subject)", TRUE),
  list("orthodont", orthodont, "distance ~ age + (age | Subject)", TRUE),
  list("oxboys", oxboys, "height ~ age + (age | Subject)", TRUE),
  list("pastes", pastes, "strength ~ 1 + (1 | batch/cask)", TRUE),
  list("penicillin", Penicillin, "diameter ~ 1 + (1 | plate) + (1 | sample)", TRUE),
  list("dyestuff2", Dyestuff2, "Yield ~ 1 + (1 | Batch)", TRUE)
)
number <- function(x) if (length(x) == 1 && is.na(x)) NA_real_ else as.numeric(x)

models <- lapply(specs, function(s) {
  m <- fit_tight(as.formula(s[[3]]), s[[2]], s[[4]])
  i <- suppressWarnings(icc(m, verbose = FALSE))
  r <- suppressWarnings(r2(m, verbose = FALSE))
  pca <- rePCA(m)
  list(data = s[[1]], formula = s[[3]], reml = s[[4]],
       criterion = as.numeric(-2 * logLik(m)),
       is_singular = isSingular(m), pca = lapply(pca, function(p) I(p$sdev)),
       hat = unname(hatvalues(m)), rstudent = unname(rstudent(m)),
       icc_adjusted = if (is.list(i)) number(i$ICC_adjusted) else NA_real_,
       icc_unadjusted = if (is.list(i)) number(i$ICC_unadjusted) else NA_real_,
       r2_conditional = if (is.list(r)) number(r$R2_conditional) else NA_real_,
       r2_marginal = if (is.list(r)) number(r$R2_marginal) else NA_real_)
})

variances <- function(m) {
  v <- as.data.frame(VarCorr(m))
  v$vcov
}
influence_of <- function(name, d, formula, reml, by) {
  m <- fit_tight(as.formula(formula), d, reml)
  lme4_own <- suppressMessages(suppressWarnings(influence(m, by)))
  own <- setNames(cooks.distance(lme4_own), as.character(lme4_own$deleted))
  levels <- sort(unique(as.character(d[[by]])), method = "radix")
  refits <- lapply(levels, function(level) {
    fit_tight(as.formula(formula), droplevels(d[d[[by]] != level, ]), reml)
  })
  V <- as.matrix(vcov(m))
  J <- length(levels)
  p <- nrow(V)
  cook <- vapply(refits, function(r) {
    change <- fixef(r) - fixef(m)
    (J - p) / (J * p) * sum(change * solve(V, change))
  }, 0)
  parts <- as.data.frame(VarCorr(m))
  list(data = name, formula = formula, reml = reml, by = by, levels = levels,
       cooks_lme4 = unname(own[levels]), cooks = cook,
       fixed = lapply(refits, function(r) I(unname(fixef(r) - fixef(m)))),
       parts = paste(parts$grp, parts$var1, parts$var2),
       variances = lapply(refits, function(r) variances(r) - variances(m)))
}
influences <- list(
  influence_of("sleepstudy", sleepstudy, "Reaction ~ Days + (Days | Subject)", TRUE, "Subject"),
  influence_of("sleepstudy", sleepstudy, "Reaction ~ Days + (Days | Subject)", FALSE, "Subject"),
  influence_of("orthodont", orthodont, "distance ~ age + (1 | Subject)", TRUE, "Subject"),
  influence_of("pastes", pastes, "strength ~ 1 + (1 | batch/cask)", TRUE, "batch"),
  influence_of("penicillin", Penicillin, "diameter ~ 1 + (1 | plate) + (1 | sample)", TRUE,
               "sample")
)

# What allFit does, for the optimisers that lme4 brings or depends on (allFit itself stops where
# optimx and dfoptim are not installed)
controls <- list(
  bobyqa = lmerControl(optimizer = "bobyqa"),
  Nelder_Mead = lmerControl(optimizer = "Nelder_Mead"),
  nlminbwrap = lmerControl(optimizer = "nlminbwrap"),
  nloptwrap.NLOPT_LN_NELDERMEAD = lmerControl(
    optimizer = "nloptwrap", optCtrl = list(algorithm = "NLOPT_LN_NELDERMEAD")),
  nloptwrap.NLOPT_LN_BOBYQA = lmerControl(
    optimizer = "nloptwrap", optCtrl = list(algorithm = "NLOPT_LN_BOBYQA"))
)
all_fits <- lapply(specs[c(1, 5, 7)], function(s) {
  criterion <- function(control) {
    m <- suppressWarnings(lmer(as.formula(s[[3]]), s[[2]], REML = s[[4]], control = control))
    as.numeric(-2 * logLik(m))
  }
  list(data = s[[1]], formula = s[[3]], reml = s[[4]], criteria = lapply(controls, criterion))
})

shapiro_of <- function(what, x) {
  test <- shapiro.test(x)
  list(what = what, n = length(x), statistic = unname(test$statistic), p = test$p.value)
}
sleep <- fit_tight(Reaction ~ Days + (Days | Subject), sleepstudy, TRUE)
shapiro <- list(shapiro_of("residuals", rstudent(sleep)),
                shapiro_of("Intercept", ranef(sleep)$Subject[, 1]),
                shapiro_of("Days", ranef(sleep)$Subject[, 2]))

packages <- c("lme4", "nlme", "performance", "insight", "jsonlite")
head <- list(
  made_by = "tests/reference/diagnostics.R", date = format(Sys.Date()),
  r = paste(R.version$major, R.version$minor, sep = "."),
  packages = lapply(setNames(packages, packages), function(p) as.character(packageVersion(p))),
  method = paste("cooks: (J - p)/(J p) change' vcov(fit)^-1 change, J deleted groups;",
                 "changes: estimate without the group minus estimate with it")
)
json <- function(x) toJSON(x, digits = NA, auto_unbox = TRUE, na = "null")
lines <- function(x) paste0("  ", vapply(x, json, ""), collapse = ",\n")
writeLines(c("{", paste0(" \"head\": ", json(head), ","),
             " \"models\": [", lines(models), " ],",
             " \"influence\": [", lines(influences), " ],",
             " \"all_fit\": [", lines(all_fits), " ],",
             " \"shapiro\": [", lines(shapiro), " ]", "}"),
           file.path("tests", "reference", "diagnostics.json"))
