# 95 % profile intervals (ML) for course_lib.lmer's conf_int(method="profile").
# Run in the repository root:  Rscript tests/reference/lmer_profile.R
# Writes tests/reference/lmer_profile.json.
#
# Two routes to every interval: `lower`, `upper` solve  min deviance(parameter = v) - minimum
# = qchisq(.95, 1)  for v directly; `lower_lme4`, `upper_lme4` are confint(profile(fit)), which
# interpolates a profile by splines. Their difference measures the interpolation.
suppressMessages({
  library(lme4)
  library(jsonlite)
})
out_dir <- file.path("tests", "reference")
cutoff <- qchisq(.95, 1)

models <- list(
  sleepstudy_correlated = list("course:sleepstudy", sleepstudy,
                               Reaction ~ Days + (Days | Subject)),
  sleepstudy_uncorrelated = list("course:sleepstudy", sleepstudy,
                                 Reaction ~ Days + (Days || Subject)),
  sleepstudy_intercept = list("course:sleepstudy", sleepstudy, Reaction ~ Days + (1 | Subject)),
  dyestuff = list("course:dyestuff", Dyestuff, Yield ~ 1 + (1 | Batch)),
  pastes = list("course:pastes", Pastes, strength ~ 1 + (1 | batch/cask)),
  penicillin = list("course:penicillin", Penicillin,
                    diameter ~ 1 + (1 | plate) + (1 | sample)),
  orthodont = list("course:orthodont", as.data.frame(nlme::Orthodont),
                   distance ~ age + (age | Subject)),
  oxboys = list("course:oxboys", as.data.frame(nlme::Oxboys), height ~ age + (age | Subject))
)
tight <- lmerControl(optimizer = "bobyqa", optCtrl = list(rhoend = 1e-10, maxfun = 1e5),
                     calc.derivs = FALSE)

# Smallest value of `f` over the box, from `start`: bobyqa until it gains nothing.
minimise <- function(f, start, lower, upper) {
  # bobyqa needs room for its first step
  rhobeg <- min(0.1 * max(abs(start), 0.1), (upper - lower) / 3)
  value <- Inf
  repeat {
    at <- if (length(start) > 1) {
      minqa::bobyqa(start, f, lower, upper,
                    control = list(rhobeg = rhobeg, rhoend = 1e-9, maxfun = 1e4))
    } else {
      o <- nlminb(start, f, lower = lower, upper = upper,
                  control = list(rel.tol = 1e-15, x.tol = 1e-12))
      list(par = o$par, fval = o$objective)
    }
    if (!(at$fval < value - 1e-9)) break
    value <- at$fval
    start <- at$par
  }
  list(value = min(value, at$fval), par = if (at$fval < value) at$par else start)
}

# Roots of excess(v) = 0 on either side of the estimate; where the profile never rises to the
# cutoff on a side, the limit is the parameter's own bound.
two_roots <- function(excess, estimate, step, low, high) {
  side <- function(direction) {
    bound <- if (direction < 0) low else high
    inner <- estimate
    repeat {
      outer <- inner + direction * step
      if (direction * (outer - bound) >= 0) {
        if (excess(bound) <= 0) return(bound)
        outer <- bound
      }
      if (excess(outer) > 0) break
      inner <- outer
    }
    uniroot(excess, sort(c(inner, outer)), tol = 1e-10)$root
  }
  c(side(-1), side(1))
}

# (Co)variance parameters: lme4's deviance in terms of standard deviations, correlations and
# sigma. Far standard deviations are measured in units of their estimate.
vc_intervals <- function(fit, minimum) {
  f <- lme4:::devfun2(fit, useSc = TRUE, signames = FALSE)
  n_vc <- length(getME(fit, "theta")) + 1
  estimate <- unname(attr(f, "optimum")[seq_len(n_vc)])
  vc <- as.data.frame(VarCorr(fit), order = "lower.tri")
  is_cor <- !is.na(vc$var2)
  unit <- ifelse(is_cor, 1, pmax(estimate, 1e-3 * sd(getME(fit, "y"))))
  low <- ifelse(is_cor, -1, 0)
  high <- ifelse(is_cor, 1, Inf)
  # keep clear of exact bounds where lme4's conversion to theta divides by zero
  box_low <- ifelse(is_cor, -1 + 1e-9, 1e-7)
  box_high <- ifelse(is_cor, 1 - 1e-9, 50)
  rows <- lapply(seq_len(n_vc), function(j) {
    start <- (estimate / unit)[-j]
    excess <- function(v) {
      g <- function(x) {
        p <- numeric(n_vc)
        p[-j] <- x
        p[j] <- v
        as.numeric(f(p * unit))
      }
      if (is_cor[j]) v <- max(min(v, 1 - 1e-9), -1 + 1e-9) else v <- max(v, 1e-8)
      minimise(g, start, box_low[-j], box_high[-j])$value - minimum - cutoff
    }
    step <- if (is_cor[j]) 0.1 else 0.15
    two_roots(excess, estimate[j] / unit[j], step, low[j], high[j]) * unit[j]
  })
  kind <- ifelse(is_cor, "cor", "sd")
  kind[vc$grp == "Residual"] <- "sigma"
  data.frame(parameter = kind, group = sub("\\.[0-9]+$", "", vc$grp), term1 = vc$var1,
             term2 = vc$var2, estimate = estimate, do.call(rbind, rows))
}

# Fixed effects: move beta_j x_j to the left-hand side and refit without that column.
beta_intervals <- function(fit, formula, d, minimum) {
  parts <- lFormula(formula, d, REML = FALSE)
  beta <- fixef(fit)
  se <- sqrt(diag(as.matrix(vcov(fit))))
  rows <- lapply(seq_along(beta), function(j) {
    excess <- function(v) {
      fr <- parts$fr
      fr[[1]] <- fr[[1]] - v * parts$X[, j]
      f <- mkLmerDevfun(fr, parts$X[, -j, drop = FALSE], parts$reTrms, REML = FALSE)
      lower <- environment(f)$lower
      at <- minimise(function(th) as.numeric(f(th)), unname(getME(fit, "theta")),
                     lower, rep(100, length(lower)))
      at$value - minimum - cutoff
    }
    two_roots(excess, beta[[j]], se[j], -Inf, Inf)
  })
  data.frame(parameter = "fixed", group = NA, term1 = names(beta), term2 = NA,
             estimate = unname(beta), do.call(rbind, rows))
}

intervals <- function(name) {
  m <- models[[name]]
  d <- m[[2]]
  formula <- m[[3]]
  fit <- lmer(formula, d, REML = FALSE, control = tight)
  minimum <- as.numeric(-2 * logLik(fit))
  rows <- rbind(vc_intervals(fit, minimum), beta_intervals(fit, formula, d, minimum))
  names(rows)[6:7] <- c("lower", "upper")
  # finer than the default 1/8: the step of the profile in units of its cutoff
  spline <- suppressWarnings(confint(profile(fit, devtol = 1e-9, delta.cutoff = 1 / 32,
                                             maxpts = 400, signames = FALSE)))
  rows$lower_lme4 <- unname(spline[, 1])
  rows$upper_lme4 <- unname(spline[, 2])
  stopifnot(nrow(rows) == nrow(spline))
  rows[c("term1", "term2")] <- lapply(rows[c("term1", "term2")], function(x) {
    sub("(Intercept)", "Intercept", x, fixed = TRUE)
  })
  cat("\n", name, " deviance ", format(minimum, digits = 12), "\n", sep = "")
  print(cbind(rows[, c(1, 3:5)], signif(rows[, 6:7], 9),
              d_low = signif(rows$lower_lme4 - rows$lower, 2),
              d_up = signif(rows$upper_lme4 - rows$upper, 2)), row.names = FALSE)
  list(name = name, data = m[[1]], formula = deparse(formula), deviance = minimum, rows = rows)
}

fits <- lapply(names(models), intervals)
json <- function(x) toJSON(x, digits = NA, auto_unbox = TRUE, na = "null")
fit_text <- vapply(fits, function(f) {
  rows <- vapply(seq_len(nrow(f$rows)), function(i) {
    paste0("    ", json(lapply(f$rows[i, ], function(v) v)))
  }, "")
  paste0("  {\"name\": ", json(f$name), ", \"data\": ", json(f$data), ", \"formula\": ",
         json(f$formula), ",\n   \"reml\": false, \"level\": 0.95, \"deviance\": ",
         json(f$deviance), ",\n   \"intervals\": [\n", paste(rows, collapse = ",\n"), "]}")
}, "")
packages <- c("lme4", "nlme", "minqa", "jsonlite")
head <- list(
  made_by = "tests/reference/lmer_profile.R", date = format(Sys.Date()),
  r = paste(R.version$major, R.version$minor, sep = "."),
  packages = lapply(setNames(packages, packages), function(p) as.character(packageVersion(p))),
  method = paste("lower, upper: root of profiled deviance - minimum - qchisq(.95, 1);",
                 "lower_lme4, upper_lme4: confint(profile(fit, delta.cutoff = 1/32))")
)
writeLines(c("{", paste0(" \"head\": ", json(head), ","), " \"fits\": [",
             paste(fit_text, collapse = ",\n"), " ]", "}"),
           file.path(out_dir, "lmer_profile.json"))
