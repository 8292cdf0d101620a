# Reference values for course_lib.mixed.ar1: nlme's lme() with corAR1.
# Run in the repository root:  Rscript tests/reference/ar1.R     (about 10 seconds)
# Writes tests/reference/ar1.json. Needs r-cran-nlme, -lme4 (sleepstudy), -plm (Grunfeld), -jsonlite.
#
# nlminb and not optim: on the sleep study optim stops early (REML 1724.2023 at φ .4857, sd of the
# slopes 4.774, correlation .877) where nlminb goes on to 1724.1165 at correlation 1.
suppressMessages({
  library(nlme)
  library(jsonlite)
})
data(sleepstudy, package = "lme4")
data(Grunfeld, package = "plm")
orthodont <- as.data.frame(Orthodont)
orthodont$occasion <- (orthodont$age - 8) / 2
gaps <- orthodont[-c(2, 7, 20, 33, 60), ]  # five rows left out: distances of two steps
control <- lmeControl(opt = "nlminb", returnObject = TRUE, msMaxIter = 500)
specs <- list(
  list("sleepstudy", sleepstudy, Reaction ~ Days, ~ Days | Subject, ~ Days | Subject, "REML"),
  list("sleepstudy", sleepstudy, Reaction ~ Days, ~ Days | Subject, ~ Days | Subject, "ML"),
  list("orthodont", orthodont, distance ~ age, ~ age | Subject, ~ occasion | Subject, "REML"),
  list("orthodont", orthodont, distance ~ age, ~ 1 | Subject, ~ occasion | Subject, "REML"),
  list("gaps", gaps, distance ~ age, ~ 1 | Subject, ~ occasion | Subject, "REML"),
  list("grunfeld", Grunfeld, inv ~ value + capital, ~ 1 | firm, ~ year | firm, "REML"),
  list("grunfeld", Grunfeld, inv ~ value + capital, ~ 1 | firm, ~ year | firm, "ML")
)
fits <- lapply(specs, function(s) {
  m <- suppressWarnings(lme(s[[3]], random = s[[4]], data = s[[2]], method = s[[6]],
                            correlation = corAR1(form = s[[5]]), control = control))
  parts <- VarCorr(m)
  list(data = s[[1]], random = deparse(s[[4]]), method = s[[6]],
       criterion = -2 * as.numeric(logLik(m)),
       phi = unname(coef(m$modelStruct$corStruct, unconstrained = FALSE)),
       fixed = unname(fixef(m)), se = unname(sqrt(diag(vcov(m)))),
       sd = unname(as.numeric(parts[, "StdDev"])),
       residuals = unname(as.numeric(residuals(m, type = "normalized"))))
})
versions <- sapply(c("nlme", "lme4", "plm"), function(p) as.character(packageVersion(p)))
head <- list(made_by = "tests/reference/ar1.R", date = as.character(Sys.Date()),
             r = R.version.string, packages = as.list(versions),
             left_out_of_gaps = c(2, 7, 20, 33, 60))
writeLines(toJSON(list(head = head, fits = fits), digits = 12, auto_unbox = TRUE, pretty = TRUE),
           "tests/reference/ar1.json")
