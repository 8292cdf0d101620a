# Reference values for course_lib.panel, from plm. Run from the root of the repository:
#   Rscript tests/reference/panel.R
# Writes panel.json and data/panel_hedonic.csv (the unbalanced panel) beside this script.
suppressPackageStartupMessages({library(plm); library(jsonlite)})
here <- function() {
  script <- sub("^--file=", "", grep("^--file=", commandArgs(), value = TRUE))
  dirname(normalizePath(script))
}
folder <- here()

wald <- function(estimate, covariance, terms) {
  b <- estimate[terms]
  as.numeric(b %*% solve(covariance[terms, terms], b))
}
table_of <- function(estimate, covariance)
  list(coef = as.list(estimate), se = as.list(sqrt(diag(covariance))))

# Swamy-Arora as Stata's `xtreg, re` and linearmodels do it: in an unbalanced panel the number
# of periods in the between variance is the harmonic mean. In a balanced panel it is plm's.
random_harmonic <- function(formula, pooled, within, between, id) {
  X <- model.matrix(pooled)
  y <- as.numeric(pmodel.response(pooled))
  periods <- ave(y, id, FUN = length)
  n_entities <- length(unique(id))
  s2_e <- deviance(within) / (length(y) - n_entities - length(coef(within)))
  mean_periods <- n_entities / sum(1 / table(id))
  s2_u <- max(0, deviance(between) / df.residual(between) - s2_e / mean_periods)
  theta <- 1 - sqrt(s2_e / (periods * s2_u + s2_e))
  quasi <- function(v) v - theta * ave(v, id)
  fit <- lm.fit(apply(X, 2, quasi), quasi(y))
  s2 <- sum(fit$residuals^2) / fit$df.residual
  list(coef = fit$coefficients, cov = s2 * chol2inv(fit$qr$qr[, seq_len(ncol(X))]) |>
         `dimnames<-`(list(colnames(X), colnames(X))), s2 = s2,
       sigma2_e = s2_e, sigma2_u = s2_u, theta = range(theta))
}

one_panel <- function(formula, data, index, varying) {
  pdata <- pdata.frame(data, index = index)
  id <- as.character(data[[index[1]]])
  within <- plm(formula, pdata, model = "within")
  between <- plm(formula, pdata, model = "between")
  pooled <- plm(formula, pdata, model = "pooling")
  random <- plm(formula, pdata, model = "random")
  harmonic <- random_harmonic(formula, pooled, within, between, id)
  s2_within <- deviance(within) / df.residual(within)

  common <- names(coef(within))
  hausman <- function(estimate, cov_re, factor = 1) {
    difference <- coef(within)[common] - estimate[common]
    V <- factor * vcov(within)[common, common] - cov_re[common, common]
    list(statistic = as.numeric(difference %*% solve(V, difference)), df = length(common),
         smallest_eigenvalue = min(eigen(V, symmetric = TRUE)$values))
  }
  ph <- phtest(within, random)

  # Mundlak: the regressors and their entity means. Its within coefficients are those of
  # `within`; those of the means are between minus within.
  for (name in varying) data[[paste0(name, "_mean")]] <- ave(data[[name]], id)
  means <- paste0(varying, "_mean")
  longer <- update(formula, reformulate(c(".", means), response = "."))
  pdata <- pdata.frame(data, index = index)
  m_pooled <- plm(longer, pdata, model = "pooling")
  m_within <- plm(longer, pdata, model = "within")
  m_between <- plm(longer, pdata, model = "between")
  mundlak <- random_harmonic(longer, m_pooled, m_within, m_between, id)
  # Clustered by entity on the quasi-demeaned data, times n / (n - k) as linearmodels does
  X <- model.matrix(m_pooled)
  y <- as.numeric(pmodel.response(m_pooled))
  periods <- ave(y, id, FUN = length)
  theta <- 1 - sqrt(mundlak$sigma2_e / (periods * mundlak$sigma2_u + mundlak$sigma2_e))
  quasi <- function(v) v - theta * ave(v, id)
  X <- apply(X, 2, quasi)
  scores <- rowsum(X * as.numeric(quasi(y) - X %*% mundlak$coef), id)
  bread <- solve(crossprod(X))
  clustered <- bread %*% crossprod(scores) %*% bread * nrow(X) / (nrow(X) - ncol(X))

  result <- list(
    formula = paste(deparse(formula), collapse = ""), n = nrow(data),
    fe = table_of(coef(within), vcov(within)),
    pooled = table_of(coef(pooled), vcov(pooled)),
    plm_re = c(table_of(coef(random), vcov(random)),
               list(sigma2_e = as.numeric(ercomp(random)$sigma2["idios"]),
                    sigma2_u = as.numeric(ercomp(random)$sigma2["id"]))),
    re = c(table_of(harmonic$coef, harmonic$cov), harmonic[c("sigma2_e", "sigma2_u")]),
    phtest = list(statistic = as.numeric(ph$statistic), df = as.numeric(ph$parameter),
                  p = as.numeric(ph$p.value)),
    hausman = hausman(harmonic$coef, harmonic$cov),
    sigmamore = hausman(harmonic$coef, harmonic$cov, harmonic$s2 / s2_within),
    mundlak = table_of(mundlak$coef, mundlak$cov),
    mundlak_test = wald(mundlak$coef, mundlak$cov, means),
    mundlak_test_clustered = wald(mundlak$coef, clustered, means))
  if (all(table(id) == table(id)[1])) {  # plm's own Mundlak and its robust covariance
    m_random <- plm(longer, pdata, model = "random")
    result$plm_mundlak_test <- wald(coef(m_random), vcov(m_random), means)
    hc <- vcovHC(m_random, method = "arellano", type = "HC0", cluster = "group")
    result$plm_mundlak_test_clustered <-
      wald(coef(m_random), hc, means) * (nrow(X) - ncol(X)) / nrow(X)
  }
  result
}

data(Grunfeld, Hedonic, package = "plm")
names(Grunfeld)[names(Grunfeld) == "inv"] <- "invest"
# Not plm's Males: its log wages have other last digits (Hausman 250.259494, not 250.258918)
wage <- read.csv(file.path(folder, "..", "..", "data", "wage_panel.csv"))
# Census tracts in towns: 1 to 30 tracts a town, `tax` the same within a town
hedonic <- with(Hedonic, data.frame(
  town = townid, tract = ave(townid, townid, FUN = seq_along),
  mv = mv, crim = crim, rm = rm, age = age, lstat = lstat, tax = tax))
write.csv(hedonic, file.path(folder, "data", "panel_hedonic.csv"), row.names = FALSE)
hedonic <- read.csv(file.path(folder, "data", "panel_hedonic.csv"))

result <- list(
  head = list(date = format(Sys.Date()), r = R.version.string,
              plm = as.character(packageVersion("plm")),
              note = "re: harmonic mean of the periods (Stata, linearmodels); plm_re: plm's own"),
  grunfeld = one_panel(invest ~ value + capital, Grunfeld, c("firm", "year"),
                       c("value", "capital")),
  wage_panel = one_panel(lwage ~ exper + expersq + union + married, wage, c("nr", "year"),
                         c("exper", "expersq", "union", "married")),
  wage_panel_educ = one_panel(lwage ~ expersq + union + married + educ, wage, c("nr", "year"),
                              c("expersq", "union", "married")),
  hedonic = one_panel(mv ~ crim + rm + age + lstat + tax, hedonic, c("town", "tract"),
                      c("crim", "rm", "age", "lstat")))
write_json(result, file.path(folder, "panel.json"), digits = NA, auto_unbox = TRUE,
           pretty = TRUE)
