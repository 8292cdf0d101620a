# Reference fits for course_lib.lmer with nested, crossed and partly crossed groups, from lme4.
# Run in the repository root:  Rscript tests/reference/nested_crossed.R     (10 seconds)
# Writes tests/reference/nested_crossed.json and tests/reference/data/{nested_three,
# nested_slopes,pupils_teachers,crossed_three}.csv. Needs r-cran-lme4, -numderiv, -jsonlite.
#
# The data are simulated, unbalanced, and number the groups anew within each parent, except
# school_growth, which the course ships. `flat` in nested_three is made so that the variance of
# the schools is estimated as zero: the one singular case.
#
# group:     as course_lib writes it: lme4's name without the parentheses of `c:(b:a)`.
# modes, se: of all levels of the group `modes_group`; se is the conditional standard deviation
#            given theta, sigma and the fixed effects.
# agreement: criterion of nloptwrap (LN_BOBYQA, another program than bobyqa) and of Nelder_Mead,
#            each with tight tolerances, minus `criterion`; the script stops above 1e-7.
suppressMessages({
  library(lme4)
  library(jsonlite)
})
invisible(Sys.setlocale("LC_COLLATE", "C")) # Python sorts levels by code point
out_dir <- file.path("tests", "reference")
data_dir <- file.path(out_dir, "data")

# ---- data ---------------------------------------------------------------------------------

draw <- function(sizes) sizes[sample.int(length(sizes), 1)]
label <- function(prefix, i) sprintf("%s%d", prefix, i)
# One random effect for each row, the same within a group.
effect <- function(group, sd) {
  group <- factor(group)
  rnorm(nlevels(group), sd = sd)[group]
}

# Regions, schools in regions, classrooms in schools, pupils as rows.
nested_three <- function() {
  set.seed(20261)
  cells <- NULL
  for (region in 1:10) for (school in seq_len(draw(3:6))) for (room in seq_len(draw(2:4))) {
    cells <- rbind(cells, data.frame(region, school, room, rows = draw(2:8)))
  }
  d <- cells[rep(seq_len(nrow(cells)), cells$rows), c("region", "school", "room")]
  d <- data.frame(region = label("r", d$region), school = label("s", d$school),
                  room = label("c", d$room), x = round(rnorm(nrow(d)), 6))
  school <- paste(d$region, d$school)
  room <- paste(school, d$room)
  rooms <- effect(room, 1)
  region <- effect(d$region, 1.2)
  noise <- rnorm(nrow(d))
  d$y <- round(10 + 0.8 * d$x + region + effect(school, 0.9) + rooms + noise, 6)
  # schools all alike: their classrooms' effects and the noise add up to zero in each
  d$flat <- round(5 + 0.8 * d$x + region + rooms - ave(rooms, school) +
                    noise - ave(noise, school), 6)
  d
}

# Sites, plots in sites; `year` crosses both.
nested_slopes <- function() {
  set.seed(20262)
  cells <- NULL
  for (site in 1:16) for (plot in seq_len(draw(3:7))) {
    cells <- rbind(cells, data.frame(site, plot, rows = draw(6:14)))
  }
  d <- cells[rep(seq_len(nrow(cells)), cells$rows), c("site", "plot")]
  n <- nrow(d)
  d <- data.frame(site = label("a", d$site), plot = d$plot,
                  year = sample(2001:2012, n, replace = TRUE, prob = 12:1),
                  x = round(runif(n, -2, 2), 6))
  plot <- paste(d$site, d$plot)
  site <- effect(d$site, 1)
  inner <- effect(plot, 0.8)
  d$y <- round(3 - 0.5 * d$x + 1.3 * site + inner +
                 d$x * (0.4 * site + effect(d$site, 0.6) - 0.3 * inner + effect(plot, 0.5)) +
                 effect(d$year, 0.7) + rnorm(n), 6)
  d
}

# Each pupil of a school meets some of its teachers; nobody changes school.
pupils_teachers <- function() {
  set.seed(20263)
  d <- NULL
  for (school in 1:14) {
    teachers <- draw(3:6)
    for (pupil in seq_len(draw(6:14))) {
      met <- sort(sample.int(teachers, draw(2:teachers)))
      met <- rep(met, sample.int(2, length(met), replace = TRUE))
      d <- rbind(d, data.frame(school, pupil, teacher = met))
    }
  }
  d$x <- round(rnorm(nrow(d)), 6)
  d$y <- round(50 + 2 * d$x + effect(d$school, 3) + effect(paste(d$school, d$pupil), 4) +
                 effect(paste(d$school, d$teacher), 2.5) + rnorm(nrow(d), sd = 3), 6)
  d
}

# Persons read items, raters mark them; about one cell in eight is seen.
crossed_three <- function() {
  set.seed(20264)
  d <- expand.grid(person = 1:24, item = 1:15, rater = 1:9)
  d <- d[sort(sample.int(nrow(d), 400)), ]
  d <- data.frame(person = label("p", d$person), item = label("i", d$item),
                  rater = label("r", d$rater), x = round(rnorm(nrow(d)), 6))
  d$y <- round(1 + 0.6 * d$x + effect(d$person, 1) + effect(d$item, 0.7) +
                 effect(d$rater, 0.5) + rnorm(nrow(d)), 6)
  d
}

paths <- c("course:school_growth" = file.path("data", "school_growth.csv"))
simulated <- list(nested_three = nested_three(), nested_slopes = nested_slopes(),
                  pupils_teachers = pupils_teachers(), crossed_three = crossed_three())
for (name in names(simulated)) {
  path <- file.path(data_dir, paste0(name, ".csv"))
  write.csv(simulated[[name]], path, row.names = FALSE, quote = FALSE)
  paths[[paste0("reference:", name)]] <- path
}
# Fitted from what the files say. All columns but the numeric ones of the formulas are groups.
numeric <- c("x", "y", "flat", "time", "score")
data_sets <- lapply(paths, function(path) {
  d <- read.csv(path)
  for (v in setdiff(names(d), numeric)) d[[v]] <- factor(as.character(d[[v]]))
  d
})

# ---- models -------------------------------------------------------------------------------

model <- function(name, data, formula, modes_group) {
  list(name = name, data = data, formula = formula, modes_group = modes_group)
}
models <- list(
  model("three_levels", "reference:nested_three", "y ~ x + (1 | region/school/room)",
        "school:region"),
  model("three_levels_singular", "reference:nested_three",
        "flat ~ x + (1 | region/school/room)", "region"),
  model("three_levels_course", "course:school_growth",
        "score ~ time + (1 | school/class_number/student_id)", "class_number:school"),
  model("nested_slopes", "reference:nested_slopes", "y ~ x + (x | site/plot)", "plot:site"),
  model("nested_and_crossed", "reference:nested_slopes", "y ~ x + (1 | site/plot) + (1 | year)",
        "year"),
  model("nested_slopes_and_crossed", "reference:nested_slopes",
        "y ~ x + (x | site/plot) + (1 | year)", "site"),
  model("partly_crossed", "reference:pupils_teachers",
        "y ~ x + (1 | school) + (1 | school:pupil) + (1 | school:teacher)", "school:teacher"),
  model("three_crossed", "reference:crossed_three",
        "y ~ x + (1 | person) + (1 | item) + (1 | rater)", "rater")
)

# ---- fitting ------------------------------------------------------------------------------

# Newton steps on the free parameters with Richardson-extrapolated derivatives, as in
# lmer_reference.R: values of the deviance alone locate theta only to about 1e-6.
polish <- function(deviance_at, theta, lower) {
  at_bound <- lower == 0 & theta < 1e-3
  if (any(at_bound)) {
    zeroed <- replace(theta, at_bound, 0)
    if (deviance_at(zeroed) <= deviance_at(theta) + 1e-9) theta <- zeroed
    else at_bound[] <- FALSE
  }
  free <- which(!at_bound)
  value_at <- function(x) deviance_at(replace(theta, free, x))
  gradient <- numDeriv::grad(value_at, theta[free])
  for (step in seq_len(4)) {
    hessian <- numDeriv::hessian(value_at, theta[free])
    proposal <- theta[free] - solve(hessian, gradient)
    new_gradient <- numDeriv::grad(value_at, proposal)
    if (max(abs(new_gradient)) >= max(abs(gradient))) break
    if (value_at(proposal) > value_at(theta[free]) + 1e-9) break
    theta[free] <- proposal
    gradient <- new_gradient
  }
  list(theta = theta, max_gradient = max(abs(gradient)))
}

tight <- lmerControl(optimizer = "bobyqa", optCtrl = list(rhoend = 1e-10, maxfun = 1e6),
                     calc.derivs = FALSE)
others <- list(
  nloptwrap = lmerControl(
    optimizer = "nloptwrap", calc.derivs = FALSE,
    optCtrl = list(algorithm = "NLOPT_LN_BOBYQA", xtol_abs = 1e-10, ftol_abs = 1e-12,
                   xtol_rel = 0, ftol_rel = 0, maxeval = 1e5)),
  Nelder_Mead = lmerControl(
    optimizer = "Nelder_Mead", calc.derivs = FALSE,
    optCtrl = list(FtolAbs = 1e-12, FtolRel = 1e-15, XtolRel = 1e-10, maxfun = 1e5))
)

fit_tightly <- function(formula, d, reml) {
  parts <- lFormula(formula, d, REML = reml)
  deviance_at <- do.call(mkLmerDevfun, c(parts, list(control = tight)))
  lower <- environment(deviance_at)$lower
  value_at <- function(theta) as.numeric(deviance_at(theta))
  theta_by <- function(control) {
    unname(getME(suppressMessages(lmer(formula, d, REML = reml, control = control)), "theta"))
  }
  theta <- theta_by(tight)
  value <- value_at(theta)
  repeat { # bobyqa again from where it ended, until it gains nothing
    again <- minqa::bobyqa(theta, deviance_at, lower = lower,
                           control = list(rhobeg = 0.05, rhoend = 1e-10, maxfun = 1e6))
    gain <- value - again$fval
    if (gain > 0) {
      theta <- again$par
      value <- again$fval
    }
    if (gain < 1e-10) break
  }
  sharp <- polish(value_at, theta, lower)
  reached <- vapply(others, function(control) value_at(theta_by(control)), 0)
  value <- value_at(sharp$theta) # leaves the environment at this theta
  opt <- list(par = sharp$theta, fval = value, feval = NA, conv = 0, message = "")
  call <- as.call(list(quote(lmer), formula = formula, data = d, REML = reml))
  fit <- mkMerMod(environment(deviance_at), opt, parts$reTrms, fr = parts$fr, mc = call)
  list(fit = fit, max_gradient = sharp$max_gradient, agreement = reached - value)
}

# ---- one record ---------------------------------------------------------------------------

python_name <- function(x) sub("(Intercept)", "Intercept", x, fixed = TRUE)
group_name <- function(x) gsub("[()]", "", x)

# From the definition, sigma^2 Lambda (Lambda'Z'Z Lambda + I)^-1 Lambda'.
modes_of <- function(fit, group) {
  lambda <- as.matrix(getME(fit, "Lambda"))
  zl <- as.matrix(getME(fit, "Z")) %*% lambda
  inner <- crossprod(zl) + diag(ncol(zl))
  se <- sigma(fit) * sqrt(pmax(0, rowSums((lambda %*% solve(inner)) * lambda)))
  i <- match(group, group_name(names(getME(fit, "cnms"))))
  levels_i <- levels(getME(fit, "flist")[[i]])
  terms <- python_name(getME(fit, "cnms")[[i]])
  at <- seq(getME(fit, "Gp")[i] + 1, getME(fit, "Gp")[i + 1])
  shape <- function(x) {
    matrix(x[at], ncol = length(terms), byrow = TRUE)
  }
  list(terms = I(terms), levels = levels_i, modes = shape(as.numeric(getME(fit, "b"))),
       se = shape(se))
}

record <- function(m, reml) {
  d <- data_sets[[m$data]]
  result <- fit_tightly(as.formula(m$formula), d, reml)
  fit <- result$fit
  beta <- fixef(fit)
  vc <- as.data.frame(VarCorr(fit))[c("grp", "var1", "var2", "vcov")]
  names(vc) <- c("group", "term1", "term2", "vcov")
  vc$group <- group_name(vc$group)
  for (v in c("term1", "term2")) vc[[v]] <- python_name(vc[[v]])
  modes <- modes_of(fit, m$modes_group)
  ngroups <- lapply(getME(fit, "flist"), nlevels)
  out <- list(
    name = paste0(m$name, if (reml) "_reml" else "_ml"), data = m$data, formula = m$formula,
    reml = reml, criterion = as.numeric(-2 * logLik(fit)), npar = attr(logLik(fit), "df"),
    nobs = nobs(fit), ngroups = setNames(ngroups, group_name(names(ngroups))),
    is_singular = isSingular(fit), max_gradient = signif(result$max_gradient, 2),
    agreement = as.list(signif(result$agreement, 2)),
    fe_params = setNames(as.list(unname(beta)), python_name(names(beta))),
    bse_fe = setNames(as.list(unname(sqrt(diag(as.matrix(vcov(fit)))))),
                      python_name(names(beta))),
    scale = sigma(fit)^2, varcorr = vc,
    modes_group = m$modes_group, modes_terms = modes$terms, modes_levels = modes$levels,
    modes = modes$modes, modes_se = modes$se,
    fitted_first10 = unname(fitted(fit)[1:10])
  )
  cat(sprintf("%-30s %5d rows %16.9f  grad %.0e  others %+.0e %+.0e%s\n", out$name, out$nobs,
              out$criterion, out$max_gradient, result$agreement[1], result$agreement[2],
              if (out$is_singular) "  singular" else ""))
  stopifnot(max(abs(result$agreement)) < 1e-7,
            out$is_singular == grepl("singular", m$name, fixed = TRUE))
  out
}

# ---- writing ------------------------------------------------------------------------------

json <- function(x) {
  toJSON(x, digits = NA, auto_unbox = TRUE, na = "null", null = "null", matrix = "rowmajor")
}
record_text <- function(r) {
  fields <- vapply(names(r), function(k) sprintf("   \"%s\": %s", k, json(r[[k]])), "")
  paste0("  {\n", paste(fields, collapse = ",\n"), "\n  }")
}
packages <- c("lme4", "minqa", "numDeriv", "jsonlite")
head <- list(
  made_by = "tests/reference/nested_crossed.R", date = format(Sys.Date()),
  r = paste(R.version$major, R.version$minor, sep = "."),
  packages = lapply(setNames(packages, packages), function(p) as.character(packageVersion(p))),
  control = paste("bobyqa (rhoend 1e-10), restarted until it gains < 1e-10; Newton polish on",
                  "Richardson derivatives; nloptwrap and Nelder_Mead agree to 1e-7")
)
records <- list()
for (m in models) for (reml in c(TRUE, FALSE)) records <- c(records, list(record(m, reml)))
text <- vapply(records, record_text, "")
writeLines(c("{", paste0(" \"head\": ", json(head), ","), " \"fits\": [",
             paste(text, collapse = ",\n"), " ]", "}"),
           file.path(out_dir, "nested_crossed.json"))
