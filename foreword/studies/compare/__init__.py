"""Was it worth training? Prompts, baselines and trained methods on the same rows, with a verdict that says no more than
the rows show.

    options     what a comparison may be told
    gate        `--require "prefix > prompt + 2"`
    plan        what fits the budget: rates, seeds, rows, by stated rules
    cost        one real step and one real evaluation batch of each method, timed
    baselines   the most frequent label, TF-IDF with logistic regression, the nearest training row
    prompts     the user's prompt, the best of several, few-shot examples
    trained     one method with one seed: a run in a folder of its own
    decide      the families of comparisons, and the verdict
    facts       what a system costs: values, bytes, work, latency, tokens, price
    retention   what a foreword does to other text and other tasks
    curve       how much more labels would give; pool: which to label next
    page        report.json, report.md, report.html
    run         all of it, resumable at any moment; reproduce does it again from a report
"""
