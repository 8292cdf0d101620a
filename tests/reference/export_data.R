# Write the data sets that come from R packages to data/*.csv, and the facts about them that
# tests/test_datasets.py compares with to tests/reference/export_data.json.
# Run in the repository root:  Rscript tests/reference/export_data.R
# Afterwards run tests/reference/export_data.py, which updates row counts and checksums.

suppressPackageStartupMessages({
  library(jsonlite)
  data(sleepstudy, Pastes, Penicillin, Dyestuff, Dyestuff2, package = "lme4")
  data(Orthodont, Oxboys, package = "nlme")
  data(Hsb82, package = "mlmRev")
  data(Grunfeld, package = "plm")
})

names(Grunfeld)[names(Grunfeld) == "inv"] <- "invest"

sets <- list(
  sleepstudy = sleepstudy, orthodont = Orthodont, oxboys = Oxboys, hsb82 = Hsb82,
  pastes = Pastes, penicillin = Penicillin, dyestuff = Dyestuff, dyestuff2 = Dyestuff2,
  grunfeld = Grunfeld
)

# The shortest text of 15, 16 or 17 significant digits that reads back as the same double.
digits_needed <- function(x) {
  text <- sprintf("%.15g", x)
  for (digits in 16:17) {
    lossy <- as.numeric(text) != x
    text[lossy] <- sprintf(paste0("%.", digits, "g"), x[lossy])
  }
  stopifnot(as.numeric(text) == x)
  text
}

# Factors become their labels: the internal codes of a factor are not data.
as_text <- function(column) {
  if (is.factor(column)) as.character(column) else digits_needed(column)
}

facts_of <- function(column) {
  if (is.factor(column)) {
    return(list(n_levels = length(unique(as.character(column)))))
  }
  list(mean = mean(column), sd = sd(column), min = min(column), max = max(column))
}

# meanses and cses are means of three-decimal numbers: 17 digits of them double the file. An
# error of 5e-11 is far below what any fit can feel. Nothing else is rounded.
rounded <- list(hsb82 = c("meanses", "cses"))

facts <- list()
for (name in names(sets)) {
  frame <- as.data.frame(sets[[name]])
  facts[[name]] <- list(n_rows = nrow(frame), columns = lapply(frame, facts_of))
  for (column in rounded[[name]]) frame[[column]] <- round(frame[[column]], 10)
  text <- as.data.frame(lapply(frame, as_text), stringsAsFactors = FALSE)
  # A binary connection, so that lines end in LF on every system.
  file <- file(file.path("data", paste0(name, ".csv")), open = "wb")
  write.csv(text, file, row.names = FALSE, quote = FALSE, eol = "\n")
  close(file)
}

version_of <- function(package) as.character(packageVersion(package))
packages <- c("lme4", "nlme", "mlmRev", "plm", "jsonlite")
head <- list(
  made_by = "tests/reference/export_data.R", date = format(Sys.Date()),
  R = as.character(getRversion()), packages = as.list(sapply(packages, version_of))
)
write_json(
  c(list(head = head), facts), file.path("tests", "reference", "export_data.json"),
  auto_unbox = TRUE, digits = NA, pretty = TRUE
)
