"""From answers to figures, and from figures to a judgement.

    predictions   one record a row, as JSON lines
    metrics       the registry of metrics; overlap and sums hold their formulas
    statistics    intervals, paired differences, p-values
    repeated      the same for systems trained with several seeds
    verdict       several systems at once: which differences can be claimed, in a sentence
    power         what a test set can show before anything is computed
    summary       a run's predictions as one table of figures with intervals
    report        a run's report.json, Markdown and one HTML page (contents, charts and page are its parts)

Nothing here imports torch; sacrebleu is imported when BLEU or chrF is asked for.
"""
