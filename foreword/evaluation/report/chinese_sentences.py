"""Sentences of reports in Chinese; what stands in braces is a place (see :mod:`foreword.evaluation.report.chinese`)."""

from __future__ import annotations

SENTENCES = {
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
    # Cross-validation
    "cross-validation on {word}": "{word} 上的交叉验证",
    "Folds: {metric}": "各折：{metric}",
    "{k} folds: every one of {n} rows was answered without having been learned.":
        "{k} 折：{n} 行中的每一行都由没有学过它的前言作答。",
    "The interval is that of the rows: that other training rows give another foreword is not in it.":
        "区间只含测试行的偶然性；换一批训练行会得到另一个前言，这不在其中。",
    "{said}: every fold": "{said}（每一折）",
    # A run and others, without figures
    "Paired by row. Intervals hold together in each family; p-values are Holm's. Names were chosen on dev.":
        "逐行配对。同一组比较的区间同时成立；p 值经 Holm 校正。参与裁决的系统由开发集选出。",
    "Training is that of one seed at its mean; seeds that train side by side share their time. Operations are "
    "counted, not measured; ms is one row alone, the prompt read anew each time. Tokens saved are those of the "
    "few-shot prompt (or the prompt, without one). The last column: no other system is at least as good for less "
    "work a row.":
        "训练一栏是单个随机种子的平均；并排训练的种子平分时间。运算量是数出来的，不是测出来的；毫秒是单独一行、"
        "每次重读提示词的时间。省下的词元以少样本提示词（没有则以提示词）为准。最后一栏：没有别的系统能以更少的运算"
        "达到同样好。",
    "Without a foreword the base is bit-equal to what it was before training.":
        "不带前言时，基座模型与训练前逐位相同。",
    "{said} This rests on one training each: another seed may say otherwise.":
        "{said}这只依据每种方法的一次训练：换个种子结论可能不同。",
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
    # A comparison: what was cut down, left out, or could not be measured
    "{n} learning rate{s} a method to fit the budget": "为合预算，每种方法只试 {n} 个学习率",
    "{n} seed{s} to fit the budget": "为合预算，只用 {n} 个随机种子",
    "{n} epoch{s} to fit the budget": "为合预算，只训练 {n} 轮",
    "{n} training rows to fit the budget": "为合预算，只用 {n} 行训练数据",
    "{n} dev rows to fit the budget": "为合预算，只用 {n} 行开发数据",
    "{n} test rows to fit the budget": "为合预算，只用 {n} 行测试数据",
    "{n} of {m} seeds were left out: the budget of {time} would not have held them":
        "{m} 个随机种子中有 {n} 个没有训练：{time} 的预算不够",
    "{name}: no such prompt fits this base": "{name}：没有适合这个基座模型的此类提示词",
    "{name}, seed {n}: no learning rate worked ({why})": "{name}，种子 {n}：没有一个学习率可用（{why}）",
    "Perplexity on neutral text was not measured: {why}.": "没有测量中性文本的困惑度：{why}。",
    "Not measured: {why}.": "未测量：{why}。",
    "the base is an {word}: it does not continue text": "基座模型是 {word}，不能续写文本",
    "that task has no prompt that this base could answer": "那个任务没有这个基座模型能回答的提示词",
    "Without a foreword the base HAS CHANGED: another machine or thread count?":
        "不带前言时，基座模型变了：换了机器或线程数？",
    "{n} rows of {file}, asked by their own prompt, {metric}.": "{file} 的 {n} 行，用其自己的提示词提问，{metric}。",
    "{n} of {m} rows are in {file}, the most telling first.": "{m} 行中的 {n} 行在 {file} 里，最有用的在前。",
    "{n} test rows; what they can show in {metric} is told by the intervals.":
        "{n} 行测试数据；它们在{metric}上能分辨多少，由区间说明。",
    "the lower end of the interval is {n}": "区间下限为 {n}", "the figure is {n}": "数值为 {n}",
    "{name} is not among the systems of this run": "{name} 不在这次运行的系统里",
    # Warnings of a run
    "the training loss did not move ({n} at first, {m} at last)": "训练损失没有变化（开始 {n}，结束 {m}）",
    "the training loss did not move ({n} at first, {m} at last): {names}":
        "训练损失没有变化（开始 {n}，结束 {m}）：{names}",
    "nothing was gained on dev over the text prompt: the text itself is saved: {names}":
        "在开发集上没有超过文本提示词，保存的是文本本身：{names}",
    "learning rate {n}: {why}": "学习率 {n}：{why}",
    "{n} words of {m} rows of {name} were cut off; they count as outside of every span":
        "{name} 中 {m} 行的 {n} 个词被截掉；它们算作不在任何片段里",
    # A search
    "The prompt that was found beats yours by {gain} on {m} rows that the search never saw ({optimistic} on the rows "
    "that chose it).":
        "找到的提示词胜过你的：在搜索从未见过的 {m} 行上 {gain}（在选出它的行上 {optimistic}）。",
    "Keep your prompt: the best that was found is worse, by {gain} on {m} rows that the search never saw ({optimistic} "
    "on the rows that chose it).":
        "保留你的提示词：找到的最好一个更差，在搜索从未见过的 {m} 行上 {gain}（在选出它的行上 {optimistic}）。",
    "No gain beyond noise: the best prompt that was found differs from yours by {gain} on {m} rows that the search "
    "never saw ({optimistic} on the rows that chose it).":
        "没有超出偶然的提升：找到的最好的提示词与你的相差 {gain}（在搜索从未见过的 {m} 行上；在选出它的行上 "
        "{optimistic}）。",
    "{n} points of {metric}": "{n} 个百分点（{metric}）", "{gain} ({level} interval {low} to {high})":
        "{gain}（{level} 区间 {low} 到 {high}）",
    "The search ended early: {why}.": "搜索提前结束：{why}。",
    "the budget was spent": "预算用完了", "no new prompt could be made": "造不出新的提示词了",
    "{n} held rows can only show differences above about {m} points (when the two prompts disagree on a fifth of the "
    "rows); a larger --rows shows smaller ones.":
        "{n} 行留出数据只能分辨约 {m} 个百分点以上的差异（假定两个提示词在五分之一的行上不一致）；加大 --rows 能分辨"
        "更小的差异。",
    "dev is small: {n} training rows were scored on as well.": "开发集较小：另用了 {n} 行训练数据来打分。",
    "These figures are from the rows that chose among the prompts: the best of many is flattered by them. The results "
    "above are from rows that the search never saw.":
        "这些数值来自用来挑选提示词的行：许多之中最好的那个会被高估。上面的结果来自搜索从未见过的行。",
    "Rows of each label answered right, and how often the prompt says the label at all.":
        "每个标签答对的行的占比，以及该提示词总共说了多少次这个标签。",
    "Each round makes new prompts from the best so far and races them on the search rows.":
        "每一轮从目前最好的提示词造出新的，在搜索行上角逐。",
    "Best {metric} by round, search rows": "各轮最佳{metric}，搜索行",
    "settings.yaml holds it: foreword train --config settings.yaml starts from it.":
        "settings.yaml 保存着它：foreword train --config settings.yaml 从它开始训练。",
    "settings.yaml holds it, though the held rows do not show that it is better than yours.":
        "settings.yaml 保存着它，尽管留出的行没有显示它比你的更好。",
    "settings.yaml holds your prompt: this one is worse on the held rows.":
        "settings.yaml 保存的是你的提示词：这一个在留出的行上更差。",
    "{metric}, search rows": "{metric}，搜索行",
    "stopped after {n} of {m} rows": "答完 {m} 行中的 {n} 行后淘汰", "refused: {why}": "被拒绝：{why}",
    "{what} (of {name})": "{what}（基于 {name}）",
    "{text}, calibrated": "{text}，已校准",
    "format: {what}": "格式：{what}", "opening {quoted}": "开头加 {quoted}", "ending {quoted}": "结尾加 {quoted}",
    "written as {quoted}": "写成 {quoted}", "{quoted} became {other}": "{quoted} 换成 {other}",
    "label order {what}": "标签顺序：{what}",
    "label words with lower case": "标签词改小写", "label words with a capital": "标签词首字母大写",
    "label words with capitals": "标签词改大写",
    "without {quoted}": "去掉 {quoted}", "{quoted} once more": "重复 {quoted}",
    "{quoted} and {other} swapped": "{quoted} 和 {other} 对调", "{quoted} from {name}": "取自 {name} 的 {quoted}",
    "{n} example{s} in front": "前面加 {n} 个示例", "{label} is called {quoted}": "{label} 称作 {quoted}",
    # Bias and sensitivity
    "Bias and sensitivity: {name}": "偏见与敏感度：{name}",
    "Nothing was flagged on {n} rows; what was probed, and how surely, stands below.":
        "在 {n} 行上没有标记任何问题；探查了什么、有多大把握，见下文。",
    "Flagged: answers depend on {names}.": "已标记：答案随{names}而变。",
    "Flagged: said too often or too seldom: {names}.": "已标记：说得过多或过少的标签：{names}。",
    "Flagged: answers depend on {names}; said too often or too seldom: {others}.":
        "已标记：答案随{names}而变；说得过多或过少的标签：{others}。",
    "Each line changes something that should not matter and asks again. A line is flagged when the interval lies above "
    "the tolerance, or a probability moves by a point or more beyond chance.":
        "每一行改动一处本不该有影响的地方，再问一遍。区间高于容许值，或概率移动一个百分点以上且超出偶然，就会被标记。",
    "no row names anything of: {names}": "没有一行提到：{names}",
    "{n} rows are too long and were left out": "{n} 行太长，没有使用",
    "the order in the prompt cannot be probed: learned values stand in front, not text":
        "无法探查提示词中的顺序：前面是学到的数值，不是文本",
    "the prompt neither lists all label words once nor holds examples: it has no order to probe":
        "提示词既没有把标签词各列一次，也没有示例：没有顺序可探查",
    "{a} instead of {b}": "{b}改成{a}", "about {name}": "改成{name}", "mixed {n}": "打乱 {n}",
    "only {n} row{s}: a hint, no more": "只有 {n} 行：仅供参考",
    "Without an input: the label's probability where a row says nothing, the mean over several ways to do so.":
        "没有输入时：行里什么都没说时该标签的概率，取几种空输入的平均。",
    "Too often: how often it is said, minus how often it is right; intervals for all labels together.":
        "偏多：说它的占比减去它正确的占比；区间对所有标签同时成立。",
    "{n} more are in flagged.jsonl.": "flagged.jsonl 里还有 {n} 行。",
    # The explain card
    "Explained: {name}": "解读：{name}",
    "{n} of {m} virtual tokens are nearer to a word than chance. Where one is not, its nearest words are no reading of "
    "it. Chance: 99 of 100 random directions stay below this cosine.":
        "{m} 个虚拟词元中有 {n} 个比随机方向更接近某个词。不是这样的，其最近的词不能当作它的含义。随机水平：100 个随机"
        "方向中有 99 个低于此余弦。",
    "It can be said in words: a text answers {n} of {m} rows as it does.":
        "它可以用文字说出来：一段文本在 {m} 行中有 {n} 与它答案相同。",
    "The best of {k} texts answers {n} of {m} rows as it does.":
        "{k} 段文本中最好的一段，在 {m} 行中有 {n} 与它答案相同。",
    "It cannot be said in the words that were tried: the best of {k} texts answers {n} of {m} rows as it does.":
        "试过的文字都说不出它：{k} 段文本中最好的一段，在 {m} 行中只有 {n} 与它答案相同。",
    "token {n} ({m})": "词元 {n}（{m}）", "slot {n} ({m})": "槽位 {n}（{m}）", "layer {n} ({m})": "第 {n} 层（{m}）",
    "encoder layer {n} ({m})": "编码器第 {n} 层（{m}）",
    "Most is lost without {names}.": "去掉后损失最大的是：{names}。",
    "No single part is missed by more than chance in these rows.":
        "在这些行上，去掉任何单独一部分的影响都没有超出偶然。",
    "Attention goes to it most at {word} ({n}), least at {site} ({m}).":
        "对它的注意力以 {word} 处最多（{n}），{site} 处最少（{m}）。",
    "Share of {n} rows that a text answers as the foreword does. The best found is the best of {m}, chosen on other "
    "rows; the prompt is the task's own.":
        "{n} 行中文本与前言答案相同的占比。找到的最好一段是在其他行上从 {m} 段文本中选出的；提示词是任务自己的。",
    "Mean loss of {n} rows without each part. {m} of {k} matter by more than chance in these rows (95%, each for "
    "itself).":
        "去掉每个部分后 {n} 行的平均损失。{k} 个部分中有 {m} 个在这些行上的作用超出偶然（95%，各自单独计）。",
    "A removed token moves those behind it.": "去掉一个词元，其后的会前移。",
    "A soft slot keeps its place and becomes a mean embedding.": "软槽位保留位置，换成平均嵌入。",
    "Rings: if every token got the same.": "圆圈：若各词元平分。",
    "Share of the content's attention that goes to what stands in front; mean over heads, tokens and rows.":
        "内容的注意力中落在前言上的比例；对注意力头、词元和行取平均。",
    "Attention on the foreword by site (%)": "各位置对前言的注意力 (%)",
    "layer {n}": "第 {n} 层", "encoder layer {n}": "编码器第 {n} 层", "token {n}": "词元 {n}", "slot {n}": "槽位 {n}",
    "outside of layers": "各层之外", "encoder outside of layers": "编码器各层之外",
    "No attention looks at this foreword: it changes weights or states.":
        "没有注意力指向这段前言：它改变的是权重或状态。",
    "Changed weights are no words: nothing stands near them.": "改动的权重不是词，没有什么与之相近。",
    "What each part is worth needs rows with right answers: foreword explain FILE DATA.":
        "要知道各部分的作用，需要带标准答案的行：foreword explain FILE DATA。",
    "No text can answer like it: its answers come from a trained head.":
        "没有文本能像它那样回答：答案来自训练过的输出头。",
    "A text that answers like it needs 4 rows to be searched and measured on.":
        "寻找答案相近的文本至少需要 4 行来搜索和衡量。",
    # Transfer
    "Gains over the default start on the same test rows; all intervals hold together at 95%.":
        "同一批测试行上相对默认起点的提升；所有区间以 95% 同时成立。",
    # Others
    "The first {k} tokens are enough: from there on the answers are as good as with whole inputs (a loss of {gain} is "
    "ruled out at 95%, paired).":
        "前 {k} 个词元就够了：从那里起，答案和读完整输入一样好（以 95% 的把握排除了 {gain} 的损失，配对）。",
    "No number that was tried ({tried}) can be said to be enough: a loss of {gain} or more is not ruled out.":
        "试过的数目（{tried}）都不能说够用：不能排除 {gain} 或更多的损失。",
    "Minus all: on the same rows, with a 90% interval; each end alone is a one-sided 95%.":
        "减完整输入：同样的行，90% 区间；每一端单独是单侧 95%。",
    "How many tokens are enough cannot be said: whole inputs themselves are answered no better than by one label for "
    "all rows.":
        "无法说多少词元够用：读完整输入的答案本身就不比对所有行都说同一个标签更好。",
    "Dots: what was learned on so many tokens, with its 95% interval.": "圆点：用这么多词元学到的结果及其 95% 区间。",
    "Nothing beat the prompt on dev at k = {tried}: there the prompt itself is measured.":
        "k = {tried} 时开发集上没有胜过提示词的：那里测的就是提示词。",
    "Rings: the text prompt.": "圆圈：文本提示词。",
    "Broken line: the loss that does not matter, below whole inputs.": "虚线：完整输入以下、可以不计的损失。",
    "Nearest words": "最近的词", "A text that answers like it": "答案相近的文本",
    "What each virtual token is worth": "每个虚拟词元的作用",
    "What each layer's part is worth": "每一层所得部分的作用",
    "Rise of the loss without it": "去掉后损失的增加",
    "Attention": "注意力", "What could not be explained": "未能解读的部分", "not readable": "不可读",
    "{low} to {high}": "{low} 到 {high}",
    "{n} points": "{n} 个百分点", "{n} points {metric}": "{n} 个百分点（{metric}）",
    "{word} on {b}": "{b} 上的{word}", "Comparison on {b}": "{b} 上的比较", "Prompts on {b}": "{b} 上的提示词",
    "{metric} by first k tokens": "{metric}，按前 k 个词元", "{metric} by work": "{metric}与运算量",
    "{metric} by training rows": "{metric}与训练行数", "Dev {metric}": "开发集{metric}", "Classes: {a}": "分类别：{a}",
    "Better with {b} than with {a}": "{b}好于{a}的行", "Worse with {b} than with {a}": "{b}不如{a}的行",
    "Worst answers of {a}": "{a}最差的答案", "Best answers of {a}": "{a}最好的答案",
    "Created {when}.": "生成于 {when}。",
    "The same answer to every row: {names}": "对每一行都给同一个答案：{names}",
    "no better on test than always saying the most frequent label ({n})": "在测试集上不比总说最常见的标签更好（{n}）",
    "the model gives the same answer to every test row": "模型对测试集每一行都给同一个答案",
    "the gradient was zero at every step: nothing was trained": "每一步的梯度都是零：什么也没有训练",
    "every training row has the same label: there is nothing to learn": "训练集每一行的标签都相同：没有可学的",
    "dev has only one label: it can neither choose a learning rate nor tell what was learned":
        "开发集只有一个标签：既不能选学习率，也看不出学到了什么",
    "the answers on dev have nothing to do with the labels (p = {n})": "开发集上的答案与标签无关（p = {n}）",
    "{n} of the tokens of the training rows are unknown to the tokenizer": "训练行中 {n} 的词元是分词器不认识的",
    "no better on dev than always saying the most frequent label ({n})": "在开发集上不比总说最常见的标签更好（{n}）",
    "the model gives the same answer to every dev row: {names}": "模型对开发集每一行都给同一个答案：{names}",
    "no better on dev than always saying the most frequent label ({n}): {names}":
        "在开发集上不比总说最常见的标签更好（{n}）：{names}",
    "{n} more rows are in report.json.": "report.json 里还有 {n} 行。",
    "Met: {text} ({said})": "达到要求：{text}（{said}）", "Not met: {text} ({said})": "未达到要求：{text}（{said}）",
    "Met: {text}": "达到要求：{text}", "Not met: {text}": "未达到要求：{text}",
    "{n} to {m} more labels for {gain} ({level} interval, by {k} sizes up to {p} rows).":
        "再标 {n} 到 {m} 行可得 {gain}（{level} 区间，据 {k} 种规模、最多 {p} 行）。",
    "{n} to {m} more labels for {gain} ({level} interval, by {k} sizes up to {p} rows); "
    "little to gain beyond {low}.":
        "再标 {n} 到 {m} 行可得 {gain}（{level} 区间，据 {k} 种规模、最多 {p} 行）；超过 {low} 行收益很小。",
    "How many more labels would give {gain} cannot be told: {n} or more ({level} interval, by {k} sizes up to {p} "
    "rows).":
        "无法判断再标多少行可得 {gain}：至少 {n} 行（{level} 区间，据 {k} 种规模、最多 {p} 行）。",
    "How many more labels would give {gain} cannot be told: {n} or more ({level} interval, by {k} sizes up to {p} "
    "rows); little to gain beyond {low}.":
        "无法判断再标多少行可得 {gain}：至少 {n} 行（{level} 区间，据 {k} 种规模、最多 {p} 行）；"
        "超过 {low} 行收益很小。",
    "More labels are not expected to give {gain} ({level} interval, by {k} sizes up to {p} rows).":
        "预计再多标注也得不到 {gain}（{level} 区间，据 {k} 种规模、最多 {p} 行）。",
    "More labels are not expected to give {gain} ({level} interval, by {k} sizes up to {p} rows); "
    "little to gain beyond {low}.":
        "预计再多标注也得不到 {gain}（{level} 区间，据 {k} 种规模、最多 {p} 行）；超过 {low} 行收益很小。",
}  # fmt: skip
