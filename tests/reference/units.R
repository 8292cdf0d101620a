# The sleep study with a day counted as 1, 24, 1440 and 86400000, in lme4 and nlme: which search ends where,
# and what does the program say? Run in the repository root:  Rscript tests/reference/units.R   (10 seconds)
# Writes tests/reference/units.json, whose numbers stand in chapters/deeper/06_days_in_hours.ipynb.
# Needs r-cran-lme4, r-cran-nlme, r-cran-jsonlite. No seed: nothing is drawn.
#
# criterion: REML criterion or ML deviance where the search ended; null where there was no fit.
# said:      warnings, messages and errors, each up to its first number or line end.
suppressMessages({
  library(nlme)
  library(lme4)
  library(jsonlite)
})
units <- c(days = 1, hours = 24, minutes = 1440, milliseconds = 86400000)

listen <- function(fit) {
  said <- character()
  hear <- function(condition) {
    lines <- strsplit(conditionMessage(condition), "\n")[[1]]
    said <<- c(said, trimws(sub("= [0-9].*", "", lines)))
    restart <- if (inherits(condition, "warning")) "muffleWarning" else "muffleMessage"
    invokeRestart(restart)
  }
  value <- tryCatch(
    withCallingHandlers(fit, warning = hear, message = hear),
    error = function(condition) {
      said <<- c(said, paste("error:", conditionMessage(condition)))
      NULL
    }
  )
  list(fit = value, said = unique(said[nzchar(said)]))
}

rows <- list()
for (reml in c(TRUE, FALSE)) for (unit in names(units)) {
  d <- sleepstudy
  d$Days <- d$Days * units[[unit]]
  for (search in c("nloptwrap", "bobyqa", "Nelder_Mead", "nlminb", "optim")) {
    of_lme4 <- !search %in% c("nlminb", "optim")
    heard <- if (of_lme4) {
      control <- lmerControl(optimizer = search)
      listen(lmer(Reaction ~ Days + (Days | Subject), d, REML = reml, control = control))
    } else {
      control <- lmeControl(opt = search)
      method <- if (reml) "REML" else "ML"
      listen(lme(Reaction ~ Days, d, ~ Days | Subject, method = method, control = control))
    }
    criterion <- if (is.null(heard$fit)) NA else -2 * as.numeric(logLik(heard$fit))
    rows[[length(rows) + 1]] <- list(
      reml = reml, unit = unit, package = if (of_lme4) "lme4" else "nlme", search = search,
      criterion = round(criterion, 6), said = as.list(heard$said)
    )
  }
}
write_json(
  list(
    date = as.character(Sys.Date()), R = R.version.string,
    lme4 = as.character(packageVersion("lme4")), nlme = as.character(packageVersion("nlme")),
    rows = rows
  ),
  file.path("tests", "reference", "units.json"),
  auto_unbox = TRUE, digits = NA, pretty = TRUE, na = "null"
)
