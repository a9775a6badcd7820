"""Tables as LaTeX, Markdown and HTML: what a printed page and a screen hold, and that no name is taken for a command."""

import re
import shutil
import subprocess

import pytest

from kdrun.analysis import rendering
from kdrun.analysis.latex import escaped, latex
from kdrun.analysis.table import Column, Grid, Part
from kdrun.analysis.tables import TABLES
from tests.analysis.runs import write_run
from tests.analysis.test_tables import grid


def test_latex_and_html_are_safe(tmp_path):
    write_run(tmp_path, "kd", 1, 0.9, dataset={"name": "<b>50%_&$</b>"}, name="evil")
    made = grid(tmp_path, "league")
    assert "<b>50%_&$</b>" not in rendering.html(made)
    assert "&lt;b&gt;50%_&amp;$" in rendering.html(made)
    assert r"$<$b$>$50\%\_\&\$" in latex(made)  # a bare < is printed as another sign


def test_markdown_and_html_of_a_hostile_name(tmp_path):
    write_run(tmp_path, "kd", 1, 0.9, dataset={"name": "<script>alert(1)</script>[x](javascript:y)|`*"}, name="evil")
    told = rendering.markdown(grid(tmp_path, "league"))
    assert "<" not in told
    assert r"&lt;script&gt;alert(1)&lt;/script&gt;[x\](javascript:y)\|\`\*" in told
    assert "<script>" not in rendering.html(grid(tmp_path, "league"))


def floats(text):
    """The floats of a LaTeX table."""
    return re.findall(r"\\begin\{((?:sideways)?table)\}(.*?)\\end\{\1\}", text, re.DOTALL)


@pytest.mark.parametrize("key", TABLES)
def test_latex_has_a_float_for_each_part(three_seeds, key):
    made = grid(three_seeds, key)
    text = latex(made)
    found = floats(text)
    assert len(found) == len(made.parts)
    assert len(set(re.findall(r"\\label\{(.*?)\}", text))) == len(found)
    for _, inside in found:
        assert [inside.count(part) for part in (r"\caption{", r"\begin{adjustbox}{max totalsize", r"\end{adjustbox}",
                                                r"\begin{tabular}")] == [1, 1, 1, 1]
    assert ("rotating" in text.partition("\n")[0]) == any(kind == "sidewaystable" for kind, _ in found)


def test_a_part_is_set_where_it_can_be_larger():
    row = dict.fromkeys("abcdefgh", "x" * 20)
    columns = [Column(key, lambda row, key=key: row[key]) for key in row]
    kinds = [floats(latex(Grid("x", "x", columns[:width], [Part("", [row] * rows)])))[0][0]
             for width, rows in ((3, 5), (8, 5), (8, 60))]
    assert kinds == ["table", "sidewaystable", "table"]


def test_latex_names_methods_cites_papers_and_prints_the_best_in_bold(tmp_path):
    for seed in (1, 2, 3):
        write_run(tmp_path, "takd", seed, 0.90 + seed / 100, alone=0.93, method={"assistants": ["resnet14", "resnet20"]})
        write_run(tmp_path, "at", seed, 0.85, alone=0.93)
        if seed < 3:
            write_run(tmp_path, "sp", seed, 0.99, alone=0.93)
    rows = {line.split(" & ")[1]: line for line in latex(grid(tmp_path, "league")).splitlines() if line.count(" & ") > 4}
    best = rows["TAKD (Mirzadeh et al., 2020), without base, assistants resnet14 and resnet20"]
    assert r"\textbf{92.00 $\pm$ 1.00}" in best
    assert "$-$8.00" in rows["AT (Zagoruyko and Komodakis, 2017)"]
    assert [name for name, line in rows.items() if "textbf" in line] == [best.split(" & ")[1]]  # nor what has too few seeds
    assert "Bold: the best of the table, not a test." in latex(grid(tmp_path, "league"))


def test_what_was_not_measured_alike_has_no_best(tmp_path):
    pair = {"dataset": {"name": "cifar10"}, "teacher": {"name": "resnet26"}, "student": {"name": "resnet8"}}
    for seed in (1, 2, 3):
        write_run(tmp_path, "fsp", seed, 0.89, **pair)
        write_run(tmp_path, "dml", seed, 0.93, taught=None, under="online", peers=("wrn_28_10",), dataset={"name": "cifar10"},
                  student={"name": "resnet32"})
    text = latex(grid(tmp_path, "gou_5"))
    assert "textbf" not in floats(text)[0][1]
    assert r"FSP\textsuperscript{a}" in floats(text)[0][1]
    assert r"\textsuperscript{a} measured on cifar10, resnet26" in text


def test_siunitx_columns_have_room_for_their_figures(three_seeds):
    found = floats(latex(grid(three_seeds, "league"), siunitx=True))
    whole = next(inside for _, inside in found if "100 picture" not in inside)
    assert "S[table-format=2.2(3)]" in whole          # 92.00 ± 1.00
    assert r"\bfseries 92.00 \pm 1.00 &" in whole
    assert r"{95.00 $\pm$ 0.00}" in whole             # which siunitx would print without its spread
    assert "{accuracy}" in whole
    assert "siunitx" not in latex(grid(three_seeds, "league"))


@pytest.mark.parametrize(("words", "printed"), [
    ("-0.5 [-1, +2], a-1, x--y", r"$-$0.5 [$-$1, +2], a-1, x-{}-y"), ("e-5", "e-5"), ("a–b", "a--b"), ("é", "é"),
    ("\N{SUPERSCRIPT LATIN SMALL LETTER N}", "$^n$"), ("\N{CJK UNIFIED IDEOGRAPH-72AC}", r"\texttt{U+72AC}"),
    ("\x1b[31m", r"\texttt{U+001B}[31m"), ("\N{LATIN SMALL LIGATURE FI}", "fi"), (r"\input{x}", r"\textbackslash{}input\{x\}"),
])
def test_texts_in_latex(words, printed):
    assert escaped(words) == printed


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex with booktabs, adjustbox, rotating and siunitx")
@pytest.mark.parametrize("siunitx", [True, False])
def test_latex_compiles(three_seeds, tmp_path, siunitx):
    for seed in (1, 2, 3):
        write_run(three_seeds, "fsp", seed, 0.9, dataset={"name": "<犬>50%_&$--\\x"})
    found = "\n".join(latex(grid(three_seeds, name), siunitx) + "\\clearpage\n" for name in TABLES)
    (tmp_path / "all.tex").write_text("\\documentclass{article}\\usepackage[T1]{fontenc}"
                                      "\\usepackage{adjustbox,booktabs,rotating,siunitx}\n"
                                      f"\\begin{{document}}\n{found}\\end{{document}}\n")
    done = subprocess.run(["pdflatex", "-interaction=nonstopmode", "-draftmode", "all.tex"], cwd=tmp_path, capture_output=True,
                          text=True, errors="replace", check=False)
    assert done.returncode == 0, done.stdout[-3000:]
    assert not re.search(r"^!|Overfull|too large", done.stdout, re.MULTILINE)


def test_html_puts_figures_alone_to_the_right_and_follows_the_dark(three_seeds):
    assert "text-align: right" not in rendering.html(grid(three_seeds, "gou_1"))  # it has no figures
    page = rendering.html(grid(three_seeds, "league"))
    assert re.search(r"col3 \{\s*text-align: right", page)
    assert "prefers-color-scheme: dark" in page
    assert page.count('<div class="table">') == page.count("<table") == page.count("</table>\n</div>")
