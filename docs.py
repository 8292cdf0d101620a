import pathlib,re
N="01_random_slopes_in_five_steps.ipynb"
H={"step-1":"Step 1. Find the groups","step-3":"Step 3. Let the level differ: a random intercept","step-4":"Step 4. Let the slope differ too: a random slope","step-5":"Step 5. Compare, and check what is left","pooling":"Whose line does the model draw?","arrows":"How far does the model move a line?","few":"What if a person has only a few rows?","reading":"What do the numbers say about people?","cor":"What do the two correlations mean?","truth":"Does the model find a truth that we know?"}
def link(h,cell,pre="chapter 1, "): return f"[{pre}{H[h]}]({N}#cell-id={cell})"
p=pathlib.Path("chapters/glossary.md"); L=p.read_text().splitlines(); head=""
where={"Balanced":("step-1","plain-question"),"Complete pooling":("pooling","pooling"),"No pooling":("pooling","pooling"),"Partial pooling":("pooling","pooling"),"Conditional mode":("reading","reading"),"Degrees of freedom":("step-3","icc-meaning"),"Deviance":("step-5","step-5"),"Fixed effect":("step-3","step-3"),"Grouping factor":("step-1","grouping-factor"),"Intraclass":("step-3","icc-meaning"),"Level":("step-3","step-3"),"Maximum likelihood":("step-5","step-5"),"Profile":("reading","profile-answer"),"Random effect":("step-3","step-3"),"Random intercept":("step-3","step-3"),"Random slope":("step-4","step-4"),"Satterthwaite":("reading","fixed-table-answer"),"Shrinkage":("pooling","pooling-answer")}
for i,l in enumerate(L):
    if l.startswith("## "): head=l[3:]
    if N in l and "cell-id" not in l:
        k=[w for w in where if head.startswith(w)]; print(head,k)
        if k: L[i]=re.sub(r"\[chapter 1, [^\]]*\]\("+re.escape(N)+r"#[^)]*\)", link(*where[max(k,key=len)]), l)
p.write_text("\n".join(L)+"\n")
p=pathlib.Path("chapters/article_map.md"); t=p.read_text()
a=t.index("### 1 Opening:"); b=t.index("## 2.1 ")
six="[chapter 6, Which predicts held-out occasions best?](06_building_the_model.ipynb#which-predicts-held-out-occasions-best)"
lrb="[chapter 3, Likelihood-ratio tests at the boundary](03_random_slope_model.ipynb#likelihood-ratio-tests-at-the-boundary)"
new=f"""### 1 Opening: why plain regression is not enough

- **holds**: Plain regression misjudges grouped data. The means of the subjects' residuals scatter more than twice as far as independence allows; the standard errors are wrong, in either direction. See {link("step-1","step-1-answer")}.

- **holds with conditions**: A random-slope model explains clearly more. In the sleep study the residual variance falls from 2,277 to 655, most of it by the intercepts alone (960). What is explained is the person, not a cause, and it does not help with a new person. See {link("step-4","box-explanatory-power")}.

- **holds with conditions**: A random-slope model predicts clearly better than plain regression. For days of people whom the model knows, it does. Against other models that know the person: with three days per person it beats separate lines clearly, with seven days the two cannot be told apart, and that it beats a random intercept is not certain in either case. See {six}.

### 1 Core idea

- **holds**: Levels and slopes may both differ between groups. The likelihood-ratio statistic of the sleep study leaves no doubt that slopes do. See {link("step-4","step-4")}; {link("step-5","likelihood-ratio-answer")}.

### 1 The five steps

- **holds**: Begin by finding the groups and their levels. Groups that are left out hide in those that are kept, and the standard error of the mean level is then far too small. See {link("truth","known-truth-answer")}.

- **holds with conditions**: The random intercept is the base to start from. As a step it is fine. As a result it can mislead: in the sleep study it halves the standard error of the mean slope. In other data the difference is smaller. See {link("step-3","icc-meaning")}.

- **holds with conditions**: Test whether the slope varies. The textbook's χ² is not right at the edge of a variance; here the verdict does not depend on it. See {link("step-5","likelihood-ratio-answer")}; {lrb}.

- **holds with conditions**: AIC, BIC and a likelihood-ratio test compare the models and check them. They compare, but they only rank: that three rows lie far out, and that neighbouring days are alike, is seen in residuals alone. See {link("step-5","criteria-answer")}; {link("step-5","memory")}.

### 1 The code

- **does not hold**: The formula fits a separate line for each student. The lines are partially pooled: their slopes are spread less than those of separate fits, and the whole lines lie nearer to the common one. See {link("pooling","box-separate-fits")}; {link("arrows","shrinkage-arrows")}; {link("few","few-rows-answer")}.

- **holds**: The formula lets level and slope be related. Their correlation is one of its six parameters. See {link("step-4","step-4")}.

### 1 Reading the result

- **holds**: Fixed effects are averages over everybody. On balanced data they are the mean of the separate lines. See {link("step-4","step-4-answer")}.

- **holds**: Random effects are variances and a covariance that say how groups differ. They describe people; an interval for the mean does not. See {link("reading","two-intervals-answer")}.

- **holds**: The last block of the output is the estimated correlation of the fixed effects. It is the correlation of their *estimates*, over repeated studies, and it moves with the zero of the predictor. See {link("cor","correlation-of-estimates-answer")}.

"""
t=t[:a]+new+t[b:]
t=t.replace("The link after a claim leads to the section of the notebook with the cell; where a site does\nnot jump to it, look for the heading by its name.","The link after a claim leads to the cell, or to the section with the cell, and names the section;\nwhere a site does not jump to it, look for the heading by its name.")
p.write_text(t)
def tl(h,cell): return link(h,cell,"")
p=pathlib.Path("chapters/teaching.md"); t=p.read_text()
a=t.index("[The chapter](01_"); b=t.index("### Chapter 1: questions that come")
zero=f"[Does everyone slow down alike?]({N}#cell-id=study)"; two=f"[Step 2. Load the data, and look at each person]({N}#cell-id=step-2)"
ex=lambda k: f"[Exercise 1.{k}]({N}#cell-id=exercise-1-{k})"
start=f"| {zero} · {tl('step-1','step-1')} · {two} | 15 |"
t=t[:a]+f"""[The chapter]({N}). For the reader at home: 85 minutes to read, 50 minutes to exercise.

### Chapter 1 in 90 minutes

| show | min |
|---|---|
{start}
| {tl('step-3','step-3')} · {tl('step-4','step-4')} | 20 |
| {tl('pooling','pooling')} · {tl('arrows','arrows')} · {tl('few','few-rows-question')} (the heart of the lecture) | 20 |
| {tl('step-5','step-5')} | 10 |
| {tl('reading','reading')} · {tl('cor','correlations')} | 15 |
| {ex(4)} · {ex(5)} | 10 |

### Chapter 1 in 45 minutes

| show | min |
|---|---|
{start}
| {tl('step-3','step-3')} · {tl('step-4','step-4')} | 15 |
| {tl('pooling','pooling')} · {tl('arrows','arrows')} | 15 |

### Chapter 1: homework

{ex(1).replace("Exercise ","")}, {ex(2).replace("Exercise ","")} and {ex(6).replace("Exercise ","")}; {ex(3).replace("Exercise ","")} is the best one for a discussion. After 45 minutes also the section {tl('reading','reading')}. To read: {tl('truth','known-truth')}, and the deeper notebooks on [shrinkage by matrices](deeper/01_shrinkage_by_matrices.ipynb), [the memory of neighbouring days](deeper/01_neighbouring_days.ipynb) and [statsmodels](deeper/01_the_same_model_in_statsmodels.ipynb).

"""+t[b:]
t=t.replace("It costs a coefficient a person, says","It costs a coefficient per person, says")
p.write_text(t)
p=pathlib.Path("README.md"); t=p.read_text(); t=t.replace("| sleepstudy | 90 + 45 |","| sleepstudy | 85 + 50 |"); p.write_text(t)
p=pathlib.Path("tests/test_course_documents.py"); t=p.read_text()
t=t.replace('''    texts = [text for level, text in headings(markdown_of(path)) if level <= 3]
    return dict(zip(slugs(texts), map(plain, texts), strict=True))
''','''    texts = [text for level, text in headings(markdown_of(path)) if level <= 3]
    return dict(zip(slugs(texts), map(plain, texts), strict=True)) | cells(path)


@cache
def cells(path):
    """Return {"cell-id=…": heading of its section} of a notebook; nothing of a document."""
    if path.suffix != ".ipynb":
        return {}
    found, heading = {}, None
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "markdown":
            texts = [text for level, text in headings("".join(cell["source"])) if level <= 3]
            heading = texts[0] if texts else heading
        found[f"cell-id={cell['id']}"] = plain(heading)
        if cell["cell_type"] == "markdown" and texts:
            heading = texts[-1]
    return found
''')
t=t.replace('''        if heading and not anchor.startswith("exercise-"):''','''        if heading and not anchor.removeprefix("cell-id=").startswith("exercise-"):''')
t=t.replace('''    exercises = {anchor for _, _, anchor in links(parts[f"Chapter {number}: homework"])}
    assert any(anchor.startswith''','''    targets = links(parts[f"Chapter {number}: homework"])
    exercises = {anchor.removeprefix("cell-id=") for _, _, anchor in targets}
    assert any(anchor.startswith''')
t=t.replace('''    linked = {(file, anchor) for _, file, anchor in links(document("article_map.md"))}
    for path in NOTEBOOKS:
        for anchor in sections_with_a_box(markdown_of(path)):
            assert (path.name, anchor) in linked, f"{path.name}#{anchor} is not in the map"''','''    linked = {(file, anchor) for _, file, anchor in links(document("article_map.md"))}
    for path in NOTEBOOKS:
        headings_linked = {anchors(path).get(a) for file, a in linked if file == path.name}
        for anchor in sections_with_a_box(markdown_of(path)):
            there = anchors(path)[anchor] in headings_linked
            assert there, f"{path.name}#{anchor} is not in the map"''')
p.write_text(t)
