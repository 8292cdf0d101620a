# Reference fits for course_lib.lmer, from lme4 and lmerTest.
# Run in the repository root:  Rscript tests/reference/lmer_reference.R
# Writes tests/reference/lmer_reference.json and tests/reference/data/*.csv.
suppressMessages({
  library(lme4)
  library(jsonlite)
})
invisible(Sys.setlocale("LC_COLLATE", "C")) # Python sorts levels by code point
out_dir <- file.path("tests", "reference")
data_dir <- file.path(out_dir, "data")
dir.create(data_dir, showWarnings = FALSE, recursive = TRUE)

# ---- data ---------------------------------------------------------------------------------

# Plain data frame; every factor unordered with its levels sorted, so that the first level
# alphabetically is the reference level, as in formulaic.
plain <- function(d, columns = names(d)) {
  d <- as.data.frame(d)[columns]
  for (v in columns) if (is.factor(d[[v]])) d[[v]] <- factor(as.character(d[[v]]))
  rownames(d) <- NULL
  d
}

from_package <- function(name, package) {
  e <- new.env()
  data(list = name, package = package, envir = e)
  get(name, envir = e)
}

course <- list(
  sleepstudy = plain(from_package("sleepstudy", "lme4")),
  orthodont = plain(from_package("Orthodont", "nlme")),
  pastes = plain(from_package("Pastes", "lme4")),
  penicillin = plain(from_package("Penicillin", "lme4")),
  dyestuff = plain(from_package("Dyestuff", "lme4")),
  dyestuff2 = plain(from_package("Dyestuff2", "lme4")),
  oxboys = plain(from_package("Oxboys", "nlme")),
  hsb82 = plain(from_package("Hsb82", "mlmRev"))
)

# as data/hsb82.csv stores them (see export_data.R)
for (v in c("meanses", "cses")) course$hsb82[[v]] <- round(course$hsb82[[v]], 10)

wages <- from_package("Wages", "plm") # 595 people, seven consecutive rows each
wages$id <- rep(seq_len(595), each = 7)
reference <- list(
  machines = plain(from_package("Machines", "nlme")),
  cake = plain(from_package("cake", "lme4"), c("replicate", "recipe", "temp", "angle")),
  ergostool = plain(from_package("ergoStool", "nlme")),
  pixel = plain(from_package("Pixel", "nlme")),
  chickweight = plain(from_package("ChickWeight", "datasets")),
  oxide = plain(from_package("Oxide", "nlme"), c("Lot", "Wafer", "Thickness")),
  wafer = plain(from_package("Wafer", "nlme")),
  exam = plain(from_package("Exam", "mlmRev"), c("school", "normexam", "standLRT", "sex")),
  scotssec = plain(from_package("ScotsSec", "mlmRev"),
                   c("primary", "second", "attain", "verbal", "sex")),
  wages = plain(wages, c("id", "exp", "lwage")),
  produc = plain(from_package("Produc", "plm"), c("state", "pcap", "pc", "emp", "unemp", "gsp"))
)
for (name in names(reference)) {
  path <- file.path(data_dir, paste0(name, ".csv"))
  write.csv(reference[[name]], path, row.names = FALSE, quote = FALSE)
  back <- read.csv(path)
  for (v in names(back)) {
    reference_column <- reference[[name]][[v]]
    if (is.numeric(reference_column)) {
      stopifnot(isTRUE(all.equal(back[[v]], as.numeric(reference_column), tolerance = 1e-14)))
    } else {
      stopifnot(identical(as.character(back[[v]]), as.character(reference_column)))
    }
  }
}
data_sets <- c(setNames(course, paste0("course:", names(course))),
               setNames(reference, paste0("reference:", names(reference))))

# ---- models -------------------------------------------------------------------------------

# `^` in R is `**` in Python; everything else is written alike.
model <- function(name, data, formula, newdata = NULL) {
  list(name = name, data = data, formula_py = formula, newdata = newdata,
       formula_r = gsub("**", "^", formula, fixed = TRUE))
}

models <- list(
  model("sleepstudy_correlated", "course:sleepstudy", "Reaction ~ Days + (Days | Subject)",
        data.frame(Days = c(0, 5, 12.5, 3), Subject = c("308", "309", "372", "999"))),
  model("sleepstudy_uncorrelated", "course:sleepstudy", "Reaction ~ Days + (Days || Subject)"),
  model("sleepstudy_two_bars", "course:sleepstudy",
        "Reaction ~ Days + (1 | Subject) + (0 + Days | Subject)"),
  model("sleepstudy_intercept", "course:sleepstudy", "Reaction ~ Days + (1 | Subject)"),
  model("sleepstudy_slope_only", "course:sleepstudy", "Reaction ~ Days + (0 + Days | Subject)"),
  model("sleepstudy_no_fixed_intercept", "course:sleepstudy",
        "Reaction ~ Days - 1 + (Days | Subject)"),
  model("sleepstudy_no_fixed_slope", "course:sleepstudy", "Reaction ~ 1 + (Days | Subject)"),
  model("sleepstudy_quadratic", "course:sleepstudy",
        "Reaction ~ Days + I(Days**2) + (Days | Subject)"),
  model("sleepstudy_log", "course:sleepstudy", "log(Reaction) ~ Days + (Days | Subject)"),
  model("orthodont", "course:orthodont", "distance ~ age + (age | Subject)"),
  model("orthodont_sex", "course:orthodont", "distance ~ age * Sex + (age | Subject)",
        data.frame(age = c(8, 11, 14.5, 10), Sex = c("Male", "Female", "Male", "Female"),
                   Subject = c("M01", "F10", "M16", "F99"))),
  model("orthodont_uncorrelated", "course:orthodont", "distance ~ age + Sex + (age || Subject)"),
  model("oxboys", "course:oxboys", "height ~ age + (age | Subject)"),
  model("oxboys_quadratic", "course:oxboys", "height ~ age + I(age**2) + (age | Subject)"),
  model("oxboys_quadratic_random", "course:oxboys",
        "height ~ age + I(age**2) + (age + I(age**2) | Subject)"),
  model("pastes", "course:pastes", "strength ~ 1 + (1 | batch/cask)",
        data.frame(batch = c("A", "C", "A", "Z"), cask = c("a", "b", "z", "a"))),
  model("pastes_sample", "course:pastes", "strength ~ 1 + (1 | sample) + (1 | batch)"),
  model("penicillin", "course:penicillin", "diameter ~ 1 + (1 | plate) + (1 | sample)"),
  model("dyestuff", "course:dyestuff", "Yield ~ 1 + (1 | Batch)"),
  model("dyestuff2", "course:dyestuff2", "Yield ~ 1 + (1 | Batch)"),
  model("hsb82_ses", "course:hsb82", "mAch ~ ses + (ses | school)"),
  model("hsb82_ses_uncorrelated", "course:hsb82", "mAch ~ ses + (ses || school)"),
  model("hsb82_cross_level", "course:hsb82",
        "mAch ~ cses * sector + cses * meanses + (cses | school)"),
  model("machines_interaction", "reference:machines",
        "score ~ Machine + (1 | Worker) + (1 | Worker:Machine)"),
  model("machines_unstructured", "reference:machines", "score ~ Machine + (Machine | Worker)"),
  model("machines_cell_means", "reference:machines", "score ~ Machine + (0 + Machine | Worker)"),
  model("cake", "reference:cake", "angle ~ recipe * temp + (1 | recipe:replicate)"),
  model("ergostool", "reference:ergostool", "effort ~ Type + (1 | Subject)"),
  model("pixel", "reference:pixel",
        "pixel ~ day + I(day**2) + (day | Dog) + (1 | Dog:Side)"),
  model("pixel_nested_slopes", "reference:pixel", "pixel ~ day + I(day**2) + (day | Dog/Side)"),
  model("chickweight", "reference:chickweight", "weight ~ Time + (Time | Chick)"),
  model("oxide", "reference:oxide", "Thickness ~ 1 + (1 | Lot/Wafer)"),
  model("wafer_nested_slopes", "reference:wafer",
        "current ~ voltage + I(voltage**2) + (voltage | Wafer/Site)"),
  model("exam", "reference:exam", "normexam ~ standLRT + (standLRT | school)"),
  model("scotssec", "reference:scotssec", "attain ~ sex + (1 | primary) + (1 | second)"),
  model("scotssec_slope", "reference:scotssec",
        "attain ~ verbal + sex + (verbal | primary) + (1 | second)"),
  model("wages", "reference:wages", "lwage ~ exp + (exp | id)"),
  model("produc", "reference:produc",
        "log(gsp) ~ log(pcap) + log(pc) + log(emp) + unemp + (unemp | state)")
)

# ---- fitting ------------------------------------------------------------------------------

# Newton steps on the free parameters with Richardson-extrapolated derivatives. A search on
# values of the deviance alone stops about 1e-6 away from the optimal theta; its zero
# gradient is located far more sharply.
polish <- function(deviance_at, theta, lower) {
  at_bound <- lower == 0 & theta < 1e-3
  if (any(at_bound)) {
    zeroed <- replace(theta, at_bound, 0)
    if (deviance_at(zeroed) <= deviance_at(theta) + 1e-9) theta <- zeroed
    else at_bound[] <- FALSE
  }
  free <- which(!at_bound)
  gradient_at <- function(th) {
    numDeriv::grad(function(x) deviance_at(replace(th, free, x)), th[free])
  }
  gradient <- if (length(free)) gradient_at(theta) else 0
  value <- deviance_at(theta)
  for (step in seq_len(4)) {
    if (!length(free)) break
    hessian <- numDeriv::hessian(function(x) deviance_at(replace(theta, free, x)), theta[free])
    e <- eigen(hessian, symmetric = TRUE)
    if (min(e$values) < 1e-8 * max(e$values)) break
    proposal <- theta
    proposal[free] <- theta[free] - e$vectors %*% (crossprod(e$vectors, gradient) / e$values)
    if (any(proposal < lower)) break
    new_gradient <- gradient_at(proposal)
    if (max(abs(new_gradient)) >= max(abs(gradient))) break
    if (deviance_at(proposal) > value + 1e-9) break
    theta <- proposal
    gradient <- new_gradient
    value <- deviance_at(theta)
  }
  list(theta = theta, max_gradient = max(abs(gradient)))
}

tight <- lmerControl(optimizer = "bobyqa", optCtrl = list(rhoend = 1e-10, maxfun = 1e5),
                     calc.derivs = FALSE)

# The best of bobyqa, nlminb and Nelder-Mead; bobyqa again from there until it gains nothing;
# then the polish. Returns an lme4 fit at that theta.
fit_tightly <- function(formula, d, reml) {
  parts <- lFormula(formula, d, REML = reml)
  deviance_at <- do.call(mkLmerDevfun, c(parts, list(control = tight)))
  lower <- environment(deviance_at)$lower
  start <- getME(suppressMessages(lmer(formula, d, REML = reml, control = tight)), "theta")
  candidates <- list(start)
  for (optimizer in c("nlminbwrap", "Nelder_Mead")) {
    control <- lmerControl(optimizer = optimizer, calc.derivs = FALSE)
    fit <- tryCatch(suppressWarnings(suppressMessages(
      lmer(formula, d, REML = reml, control = control))), error = function(e) NULL)
    if (!is.null(fit)) candidates <- c(candidates, list(getME(fit, "theta")))
  }
  values <- vapply(candidates, function(th) as.numeric(deviance_at(th)), 0)
  theta <- candidates[[which.min(values)]]
  value <- min(values)
  repeat {
    again <- minqa::bobyqa(theta, deviance_at, lower = lower,
                           control = list(rhobeg = 0.05, rhoend = 1e-10, maxfun = 1e5))
    gain <- value - again$fval
    if (gain > 0) {
      theta <- again$par
      value <- again$fval
    }
    if (gain < 1e-10) break
  }
  sharp <- polish(function(th) as.numeric(deviance_at(th)), unname(theta), lower)
  value <- as.numeric(deviance_at(sharp$theta)) # leaves the environment at this theta
  opt <- list(par = sharp$theta, fval = value, feval = NA, conv = 0, message = "")
  call <- as.call(list(quote(lmer), formula = formula, data = d, REML = reml))
  fit <- mkMerMod(environment(deviance_at), opt, parts$reTrms, fr = parts$fr, mc = call)
  list(fit = fit, max_gradient = sharp$max_gradient,
       starts = unname(values) - value)
}

# ---- names as formulaic writes them -------------------------------------------------------

python_name <- function(r_name, d) {
  one <- function(piece) {
    if (is.na(piece)) return(NA_character_)
    if (piece == "(Intercept)") return("Intercept")
    for (v in names(d)) {
      if (!is.factor(d[[v]]) || !startsWith(piece, v)) next
      level <- substring(piece, nchar(v) + 1)
      if (level %in% levels(d[[v]])) return(sprintf("%s[T.%s]", v, level))
    }
    gsub("^", " ** ", piece, fixed = TRUE)
  }
  vapply(strsplit(r_name, ":", fixed = TRUE), function(pieces) {
    named <- vapply(pieces, one, "")
    if (anyNA(named)) NA_character_ else paste(named, collapse = ":")
  }, "")
}

# ---- one record ---------------------------------------------------------------------------

# Conditional standard deviations straight from their definition,
# sigma^2 Lambda (Lambda'Z'Z Lambda + I)^-1 Lambda', the same for any number of terms.
random_effect_rows <- function(fit, d, rename, n_levels = 6) {
  lambda <- as.matrix(getME(fit, "Lambda"))
  zl <- as.matrix(getME(fit, "Z")) %*% lambda
  inner <- crossprod(zl) + diag(ncol(zl))
  se <- sigma(fit) * sqrt(pmax(0, rowSums((lambda %*% solve(inner)) * lambda)))
  b <- as.numeric(getME(fit, "b"))
  flist <- getME(fit, "flist")
  cnms <- getME(fit, "cnms")
  starts <- getME(fit, "Gp")
  rows <- lapply(seq_along(cnms), function(i) {
    factor_i <- flist[[attr(flist, "assign")[i]]]
    width <- length(cnms[[i]])
    shown <- seq_len(min(n_levels, nlevels(factor_i)))
    at <- starts[i] + seq_len(width * length(shown))
    data.frame(group = names(flist)[attr(flist, "assign")[i]],
               level = rep(levels(factor_i)[shown], each = width),
               term = rep(rename(cnms[[i]]), length(shown)),
               value = b[at], se = se[at])
  })
  do.call(rbind, rows)
}

record <- function(m, reml) {
  d <- data_sets[[m$data]]
  result <- fit_tightly(as.formula(m$formula_r), d, reml)
  fit <- result$fit
  cell_means <- grepl("0 + Machine", m$formula_r, fixed = TRUE)
  rename <- function(x) python_name(x, d)
  rename_random <- function(x) {
    renamed <- python_name(x, d)
    if (cell_means) gsub("[T.", "[", renamed, fixed = TRUE) else renamed
  }
  beta <- fixef(fit)
  covariance <- unname(as.matrix(vcov(fit)))
  rownames_py <- rename(names(beta))
  vc <- as.data.frame(VarCorr(fit))
  vc$grp <- sub("\\.[0-9]+$", "", vc$grp)
  for (v in c("var1", "var2")) vc[[v]] <- rename_random(vc[[v]])
  names(vc)[1:3] <- c("group", "term1", "term2")
  flist <- getME(fit, "flist")
  df <- tryCatch({
    table <- suppressMessages(coef(summary(lmerTest::as_lmerModLmerTest(fit))))
    setNames(as.list(unname(table[, "df"])), rownames_py)
  }, error = function(e) {
    message(m$name, ": no Satterthwaite df: ", conditionMessage(e))
    NULL
  })
  first <- seq_len(6)
  out <- list(
    name = paste0(m$name, if (reml) "_reml" else "_ml"), data = m$data,
    formula_r = m$formula_r, formula_py = m$formula_py, reml = reml,
    criterion = as.numeric(-2 * logLik(fit)), llf = as.numeric(logLik(fit)),
    aic = AIC(fit), bic = BIC(fit), npar = attr(logLik(fit), "df"), nobs = nobs(fit),
    is_singular = isSingular(fit), max_gradient = signif(result$max_gradient, 2),
    names_r = names(beta),
    fe_params = setNames(as.list(unname(beta)), rownames_py),
    bse_fe = setNames(as.list(sqrt(diag(covariance))), rownames_py),
    cov_fe = covariance, satterthwaite_df = df,
    scale = sigma(fit)^2, sigma = sigma(fit), varcorr = vc,
    theta = unname(getME(fit, "theta")),
    theta_groups = names(flist)[attr(flist, "assign")],
    ngroups = lapply(flist, nlevels),
    random_effects = random_effect_rows(fit, d, rename_random),
    fitted_first6 = unname(fitted(fit)[first]), resid_first6 = unname(resid(fit)[first])
  )
  if (!is.null(m$newdata)) {
    out$newdata <- m$newdata
    out$predict_population <- unname(predict(fit, m$newdata, re.form = NA))
    out$predict_conditional <- unname(predict(fit, m$newdata, allow.new.levels = TRUE))
  }
  cat(sprintf("%-38s %18.9f  grad %.0e  starts +%s%s\n", out$name, out$criterion,
              out$max_gradient, paste(signif(result$starts, 1), collapse = " +"),
              if (out$is_singular) "  singular" else ""))
  out
}

# ---- writing ------------------------------------------------------------------------------

json <- function(x) {
  toJSON(x, digits = NA, auto_unbox = TRUE, na = "null", null = "null", matrix = "rowmajor")
}
vector_fields <- c("names_r", "theta", "theta_groups", "cov_fe", "fitted_first6",
                   "resid_first6", "predict_population", "predict_conditional")
record_text <- function(r) {
  for (f in intersect(vector_fields, names(r))) if (!is.matrix(r[[f]])) r[[f]] <- I(r[[f]])
  fields <- vapply(names(r), function(k) sprintf("   \"%s\": %s", k, json(r[[k]])), "")
  paste0("  {\n", paste(fields, collapse = ",\n"), "\n  }")
}

versions <- function(packages) lapply(setNames(packages, packages), function(p) {
  as.character(packageVersion(p))
})
head <- list(
  made_by = "tests/reference/lmer_reference.R", date = format(Sys.Date()),
  r = paste(R.version$major, R.version$minor, sep = "."),
  packages = versions(c("lme4", "lmerTest", "nlme", "mlmRev", "plm", "minqa", "numDeriv",
                        "jsonlite")),
  control = paste("best of bobyqa (rhoend 1e-10), nlminbwrap, Nelder_Mead; bobyqa restarted",
                  "until it gains < 1e-10; Newton polish on Richardson derivatives"),
  conventions = paste("criterion = -2 llf (REML criterion when reml); npar = fixed + (co)variance",
                      "+ residual variance; random_effects: first six levels in code-point order;",
                      "se = conditional SD given theta, sigma and the fixed effects")
)
records <- list()
for (m in models) for (reml in c(TRUE, FALSE)) records <- c(records, list(record(m, reml)))
text <- vapply(records, record_text, "")
writeLines(c("{", paste0(" \"head\": ", json(head), ","), " \"fits\": [",
             paste(text, collapse = ",\n"), " ]", "}"),
           file.path(out_dir, "lmer_reference.json"))
