"""What a report says in its own words, in Chinese: fixed words, and sentences with places for names and figures.

A sentence that is not listed stays English on the page. A place is written ``{name}``; what stands there is looked up
in turn, so a system's title inside a sentence is said in Chinese, too. The places in ``_NUMBERS`` hold figures only,
``{word}`` has no space.
"""

from __future__ import annotations

import re
from functools import cache

_NUMBERS = {"n", "m", "k", "low", "high", "level", "p"}
_OTHER = {"s": "s?", "t": "s?", "word": r"\S+"}
_WORDS = {
    # Sections
    "Results": "结果",
    "Notes": "说明",
    "Comparisons": "两两比较",
    "What the test set can show": "测试集能分辨多大的差异",
    "Costs": "代价",
    "Elsewhere": "对其他文本的影响",
    "On another task": "对另一任务的影响",
    "Learning curve": "学习曲线",
    "Rows to label next": "下一批该标注的行",
    "Training": "训练过程",
    "Rows to read": "值得一看的行",
    "Data": "数据",
    "Run it again": "重现结果",
    "Base": "基座模型",
    "Method": "方法",
    "Task": "任务",
    "Settings": "设置",
    "File": "文件",
    "Versions": "版本",
    "First k tokens": "前 k 个词元",
    "What changes an answer": "什么会改变答案",
    "Rows that changed their answer": "答案改变的行",
    "Labels without an input": "没有输入时的标签",
    "Prompts": "提示词",
    "What each says": "每个提示词的内容",
    "By label": "按标签",
    "Rounds": "各轮",
    "Explained": "解读",
    "Which start helps which task": "哪种起点对哪个任务有帮助",
    "How much of an input is enough": "读多少输入才够",
    # Systems
    "the most frequent label": "最常见的标签",
    "TF-IDF with logistic regression": "TF-IDF 加逻辑回归",
    "the answer of the nearest training row": "最近的训练行的答案",
    "your prompt": "你的提示词",
    "your best prompt": "你最好的提示词",
    "the few-shot prompt": "少样本提示词",
    "full fine-tuning": "全量微调",
    "prefix tuning": "前缀微调",
    "prompt tuning": "提示微调",
    "soft slots": "软槽位",
    "the foreword": "前言",
    "the prompt": "提示词",
    # Heads and cells of tables
    "rows": "行数",
    "against": "对照",
    "difference": "差异",
    "interval": "区间",
    "decision": "结论",
    "can show": "可分辨",
    "rows for this difference": "分辨此差异需要的行数",
    "better": "更好",
    "worse": "更差",
    "open": "未定",
    "yes": "是",
    "more seeds": "需要更多随机种子",
    "trained values": "训练的参数",
    "bytes": "字节",
    "training s": "训练秒数",
    "training GFLOP": "训练 GFLOP",
    "GFLOP a row": "每行 GFLOP",
    "ms a row": "每行毫秒",
    "tokens read a row": "每行读入词元",
    "tokens saved": "省下的词元",
    "price of a right answer": "每个正确答案的价格",
    "worth its work": "物有所值",
    "neutral text": "中性文本",
    "perplexity without": "不带前言的困惑度",
    "with it in front": "带上前言",
    "drift": "漂移",
    "without": "不带",
    "with": "带上",
    "change": "变化",
    "training rows": "训练行数",
    "measured": "实测",
    "expected": "预期",
    "class": "类别",
    "precision": "精确率",
    "recall": "召回率",
    "f1": "F1",
    "support": "支持数",
    "input": "输入",
    "gold": "标准答案",
    "gold \\ answer": "标准 \\ 答案",
    "key": "键",
    "value": "值",
    "split": "划分",
    "file": "文件",
    "digest": "摘要",
    "dropped": "丢弃",
    "step": "步",
    "learning_rate": "学习率",
    "steps": "步数",
    "failure": "失败",
    "guidance": "指引",
    "template": "模板",
    "label words": "标签词",
    "label": "标签",
    "prompt": "提示词",
    "answer": "答案",
    "changed input": "改动后的输入",
    "answer then": "改动后的答案",
    "what was changed": "改了什么",
    "how": "怎么改",
    "another answer": "答案改变",
    "largest move": "最大移动",
    "note": "备注",
    "round": "轮",
    "new prompts": "新提示词",
    "what changed": "改动",
    "best": "最佳",
    "before": "之前",
    "after": "之后",
    "made by": "由谁生成",
    "tokens in front": "前面的词元数",
    "layer": "层",
    "virtual token": "虚拟词元",
    "nearest tokens": "最近的词元",
    "distance": "距离",
    "readable": "可读",
    "loss": "损失",
    "without it": "去掉后",
    "attention": "注意力",
    "chance": "随机水平",
    "cosine": "余弦",
    "no": "否",
    # Charts
    "Training loss": "训练损失",
    "no finite values": "没有有限的数值",
    "Accuracy (%)": "准确率 (%)",
    "Exact match (%)": "完全匹配 (%)",
    "Macro F1 (%)": "宏平均 F1 (%)",
    "Micro F1 (%)": "微平均 F1 (%)",
    "Perplexity": "困惑度",
    "GFLOP a row, fewer is cheaper": "每行 GFLOP，越少越便宜",
    "Accuracy": "准确率",
}
_SENTENCES = {
    # The verdict of a comparison
    "{a} beats {b} by {gain} ({how}).": "{a}胜过{b}，高出 {gain}（{how}）。",
    "That is less than the {gain} that were said to matter.": "这小于事先定为有意义的 {gain}。",
    "Do not train: {b} is better than {a} by {gain} ({how}).": "不必训练：{b}比{a}高 {gain}（{how}）。",
    "Do not train: {b} is as good ({a}: {gain}; {how}).": "不必训练：{b}一样好（{a}：{gain}；{how}）。",
    "Do not train: a gain of {more} over {b} is ruled out ({a}: {how}).":
        "不必训练：可以排除比{b}高 {more} 的可能（{a}：{how}）。",
    "Your test set of {n} rows cannot answer this: it can only show differences above {gain}.":
        "你的 {n} 行测试集回答不了这个问题：它只能分辨 {gain} 以上的差异。",
    "Your test set of {n} rows cannot answer this: it can only show differences above {gain}; to show {more}, you need "
    "about {m} rows.":
        "你的 {n} 行测试集回答不了这个问题：它只能分辨 {gain} 以上的差异；要分辨 {more}，大约需要 {m} 行。",
    "Your test set of {n} rows cannot answer this: it can only show differences above {gain}; the seeds differ so much "
    "that more rows alone would not show {more}: train more seeds.":
        "你的 {n} 行测试集回答不了这个问题：它只能分辨 {gain} 以上的差异；随机种子之间相差太大，只加行数也分辨不出 "
        "{more}：请训练更多种子。",
    "{a} is {gain} against {b} ({how}).": "{a}与{b}相比 {gain}（{how}）。",
    "{a} is {gain} more; the interval ({low} to {high}) includes 0.": "{a}高 {gain}；区间（{low} 到 {high}）包含 0。",
    "{a} is {gain} less; the interval ({low} to {high}) includes 0.": "{a}低 {gain}；区间（{low} 到 {high}）包含 0。",
    "{a} is {gain} more ({how}).": "{a}高 {gain}（{how}）。", "{a} is {gain} less ({how}).": "{a}低 {gain}（{how}）。",
    "{level} interval {low} to {high}, paired, {k} seed": "{level} 区间 {low} 到 {high}，配对，{k} 个种子",
    "{level} interval {low} to {high}, paired, {k} seeds": "{level} 区间 {low} 到 {high}，配对，{k} 个种子",
    "{level} interval {low} to {high}, paired, {k} seed, Holm-corrected for {m} comparisons":
        "{level} 区间 {low} 到 {high}，配对，{k} 个种子，{m} 次比较经 Holm 校正",
    "{level} interval {low} to {high}, paired, {k} seeds, Holm-corrected for {m} comparisons":
        "{level} 区间 {low} 到 {high}，配对，{k} 个种子，{m} 次比较经 Holm 校正",
    "{n} test rows with {k} seed{s} and {m} comparison{t} show a true difference of {gain} with {level} power, if two "
    "systems disagree about {p} of the rows and seeds differ by 1 point.":
        "{n} 行测试数据、{k} 个种子、{m} 次比较，能以 {level} 的把握分辨 {gain} 的真实差异（假定两个系统在 {p} 的行上"
        "不一致，种子之间相差 1 个百分点）。",
    # The verdict of a run
    "{a} is better than {b}: {metric} {gain} ({level} interval {low} to {high}, paired, {n} rows, {chance})":
        "{a}好于{b}：{metric} {gain}（{level} 区间 {low} 到 {high}，配对，{n} 行，{chance}）",
    "{a} is worse than {b}: {metric} {gain} ({level} interval {low} to {high}, paired, {n} rows, {chance})":
        "{a}不如{b}：{metric} {gain}（{level} 区间 {low} 到 {high}，配对，{n} 行，{chance}）",
    "{a} cannot be told from {b}: {metric} {gain} ({level} interval {low} to {high}, paired, {n} rows, {chance})":
        "分辨不出{a}与{b}：{metric} {gain}（{level} 区间 {low} 到 {high}，配对，{n} 行，{chance}）",
    "Paired difference, foreword minus prompt, in {metric}: {n} ({level} interval {low} to {high}, {way}; {test} p = "
    "{p}; {m} rows).":
        "配对差异（前言减提示词），{metric}：{n}（{level} 区间 {low} 到 {high}，{way}；{test} p = {p}；{m} 行）。",
    # A run and others, without figures
    "Paired by row. Intervals hold together in each family; p-values are Holm's. Names were chosen on dev.":
        "逐行配对。同一组比较的区间同时成立；p 值经 Holm 校正。参与裁决的系统由开发集选出。",
    "Training is that of one seed at its mean. Operations are counted, not measured; ms is one row alone, the "
    "prompt read anew each time. Tokens saved are those of the few-shot prompt (or the prompt, without one). "
    "The last column: no other system is at least as good for less work a row.":
        "训练一栏是单个随机种子的平均。运算量是数出来的，不是测出来的；毫秒是单独一行、每次重读提示词的时间。省"
        "下的词元以少样本提示词（没有则以提示词）为准。最后一栏：没有别的系统能以更少的运算达到同样好。",
    "Without a foreword the base is bit-equal to what it was before training.":
        "不带前言时，基座模型与训练前逐位相同。",
    "One seed each: this is about these trainings; another seed may come out otherwise.":
        "每种方法只有一个随机种子：结论只关乎这几次训练，换个种子可能不同。",
    "Nothing was trained, so there is nothing to compare the prompt with.":
        "没有训练任何方法，提示词没有比较对象。",
    "The text prompt was measured and saved; nothing was trained.":
        "只测量并保存了文本提示词，没有训练。",
    "Nothing learned beat the prompt on dev: the prompt itself was saved.":
        "学到的都没有在开发集上胜过提示词：保存的是提示词本身。",
    "A foreword was learned; its figures stand alone here.":
        "学到了一段前言；这里只有它自己的数值。",
    "A foreword was learned; there was no test split to compare it with the prompt on.":
        "学到了一段前言；没有测试集可以和提示词比较。",
    "the model gives the same answer to every dev row":
        "模型对开发集每一行都给同一个答案",
    "nothing was gained on dev over the text prompt: the text itself is saved":
        "在开发集上没有超过文本提示词：保存的是文本本身",
    "Keep your prompt: nothing that was tried beat it on the search rows.":
        "保留你的提示词：试过的都没有在搜索行上胜过它。",
    "No start can be told from the default one on any task.":
        "在任何任务上，都分辨不出哪种起点与默认起点不同。",
    # Others
    "The first {k} tokens are enough: from there on the answers are as good as with whole inputs (a loss of {gain} is "
    "ruled out at 95%, paired).":
        "前 {k} 个词元就够了：从那里起，答案和读完整输入一样好（以 95% 的把握排除了 {gain} 的损失，配对）。",
    "None of {tried} tokens can be said to be enough: a loss of {gain} or more is not ruled out.":
        "{tried} 个词元都不能说够用：不能排除 {gain} 或更多的损失。",
    "How many tokens are enough cannot be said: whole inputs themselves are answered no better than by one label for "
    "all rows.":
        "无法说多少词元够用：读完整输入的答案本身就不比对所有行都说同一个标签更好。",
    "Dots: what was learned on so many tokens, with its 95% interval.": "圆点：用这么多词元学到的结果及其 95% 区间。",
    "Rings: the text prompt.": "圆圈：文本提示词。",
    "Broken line: the loss that does not matter, below whole inputs.": "虚线：完整输入以下、可以不计的损失。",
    "Nearest words": "最近的词", "A text that answers like it": "答案相近的文本",
    "What each part is worth": "各部分的作用",
    "Attention": "注意力", "What could not be explained": "未能解读的部分", "not readable": "不可读",
    "{low} to {high}": "{low} 到 {high}",
    "{n} points": "{n} 个百分点", "{n} points {metric}": "{n} 个百分点（{metric}）",
    "{word} on {b}": "{b} 上的{word}", "comparison on {b}": "{b} 上的比较", "Prompts on {b}": "{b} 上的提示词",
    "{metric} by first k tokens": "{metric}，按前 k 个词元", "{metric} by work": "{metric}与运算量",
    "{metric} by training rows": "{metric}与训练行数", "Dev {metric}": "开发集{metric}", "Classes: {a}": "分类别：{a}",
    "Better with {b} than with {a}": "{b}好于{a}的行", "Worse with {b} than with {a}": "{b}不如{a}的行",
    "Worst answers of {a}": "{a}最差的答案", "Best answers of {a}": "{a}最好的答案",
    "Created {when}.": "生成于 {when}。",
    "The same answer to every row: {names}": "对每一行都给同一个答案：{names}",
    "no better on dev than always saying the most frequent label ({n})": "在开发集上不比总说最常见的标签更好（{n}）",
    "the model gives the same answer to every dev row: {names}": "模型对开发集每一行都给同一个答案：{names}",
    "no better on dev than always saying the most frequent label ({n}): {names}":
        "在开发集上不比总说最常见的标签更好（{n}）：{names}",
    "{n} more rows are in report.json.": "report.json 里还有 {n} 行。",
    "Met: {text}": "达到要求：{text}", "Not met: {text}": "未达到要求：{text}",
    "About {n} more labels for {gain} ({level} interval {a} to {b}, by {k} sizes up to {m} rows).":
        "再标约 {n} 行可得 {gain}（{level} 区间 {a} 到 {b}，据 {k} 种规模、最多 {m} 行）。",
    "About {n} more labels for {gain} ({level} interval {a} to {b}, by {k} sizes up to {m} rows); little to gain "
    "beyond {p}.":
        "再标约 {n} 行可得 {gain}（{level} 区间 {a} 到 {b}，据 {k} 种规模、最多 {m} 行）；超过 {p} 行收益很小。",
    "More labels are not expected to give {gain} ({level} interval {a} to {b}, by {k} sizes up to {m} rows).":
        "预计再多标注也得不到 {gain}（{level} 区间 {a} 到 {b}，据 {k} 种规模、最多 {m} 行）。",
    "More labels are not expected to give {gain} ({level} interval {a} to {b}, by {k} sizes up to {m} rows); little to "
    "gain beyond {p}.":
        "预计再多标注也得不到 {gain}（{level} 区间 {a} 到 {b}，据 {k} 种规模、最多 {m} 行）；超过 {p} 行收益很小。",
    "out of reach": "达不到",
}  # fmt: skip
_PLACE = re.compile(r"\{(\w+)\}")


def chinese(text: str) -> str | None:
    """The text in Chinese; None where it is not ours to say."""
    found = _WORDS.get(text) or _WORDS.get(text[:1].lower() + text[1:])
    if found is not None:
        return found
    for form, said in _forms():
        match = form.fullmatch(text)
        if match:
            parts = {name: _part(part) for name, part in match.groupdict().items()}
            return said.format(**parts)
    return None


def _part(text: str) -> str:
    listed = [chinese(one) or one for one in text.split(", ")]
    return chinese(text) or ("、".join(listed) if len(listed) > 1 else text)


@cache
def _forms() -> tuple[tuple[re.Pattern[str], str], ...]:
    """Patterns of the sentences, the longest first: it says most about what it fits."""
    return tuple((_form(text), _SENTENCES[text]) for text in sorted(_SENTENCES, key=len, reverse=True))


def _form(text: str) -> re.Pattern[str]:
    parts = _PLACE.split(text)
    out = [re.escape(parts[0])]
    for name, after in zip(parts[1::2], parts[2::2], strict=True):
        what = r"[-+<>]?\d[\d.,]*%?" if name in _NUMBERS else _OTHER.get(name, ".+?")
        out.append(f"(?P<{name}>{what}){re.escape(after)}")
    return re.compile("".join(out), re.S)
