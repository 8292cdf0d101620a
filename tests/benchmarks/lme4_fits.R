# lme4 for fits.py: one request a line on stdin, one line of JSON back. See engines.py.
suppressMessages(library(lme4))

# CSV with text as factors, or float64 columns; either way reading is not part of the time.
read_data <- function(path) {
  if (grepl("\\.csv$", path)) return(read.csv(path, stringsAsFactors = TRUE))
  header <- scan(sub("\\.bin$", ".txt", path), "", quiet = TRUE)
  values <- readBin(path, "double", file.size(path) / 8)
  columns <- as.data.frame(matrix(values, ncol = length(header)))
  factors <- startsWith(header, "*")
  names(columns) <- sub("^\\*", "", header)
  columns[factors] <- lapply(columns[factors], function(x) factor(as.integer(x)))
  columns
}

peak_megabytes <- function() {
  if (!file.exists("/proc/self/status")) return(NaN)
  line <- grep("^VmHWM", readLines("/proc/self/status"), value = TRUE)
  as.numeric(gsub("[^0-9]", "", line)) / 1024
}

number <- function(x) ifelse(is.finite(x), sprintf("%.17g", x), "null")
matrix_json <- function(m) {
  rows <- apply(m, 1, function(row) paste0("[", paste(number(row), collapse = ", "), "]"))
  paste0("[", paste(rows, collapse = ", "), "]")
}

answer <- function(path, formula, reml) {
  if (is.null(frames[[path]])) frames[[path]] <- read_data(path)
  data <- frames[[path]]
  model <- as.formula(formula)
  start <- Sys.time()
  fit <- suppressMessages(suppressWarnings(lmer(model, data, REML = reml)))
  seconds <- as.numeric(Sys.time() - start, units = "secs")
  covs <- VarCorr(fit)
  texts <- vapply(covs, function(v) matrix_json(matrix(v, nrow(v)) / sigma(fit)^2), "")
  messages <- as.character(unlist(fit@optinfo$conv$lme4$messages))
  complaints <- messages[!grepl("singular", messages)]
  sprintf(
    paste0("{\"seconds\": %s, \"covs\": {%s}, \"criterion\": %s, \"converged\": %s, ",
           "\"peak_mb\": %s}"),
    number(seconds), paste0("\"", names(covs), "\": ", texts, collapse = ", "),
    number(if (reml) REMLcrit(fit) else deviance(fit)),
    if (length(complaints)) "false" else "true", number(peak_megabytes())
  )
}

frames <- new.env()
input <- file("stdin", "r")
while (length(line <- readLines(input, 1)) == 1) {
  request <- strsplit(line, "\t")[[1]]
  reply <- tryCatch(answer(request[1], request[2], request[3] == "TRUE"), error = function(e) {
    sprintf("{\"error\": \"%s\"}", gsub("[\"\\\\[:cntrl:]]", " ", conditionMessage(e)))
  })
  cat(reply, "\n", sep = "")
  flush(stdout())
}
