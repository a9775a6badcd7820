"""Completion in bash, zsh and fish: what `eval "$(kdrun -sc install=bash)"` and its like tell the shell.

Each script asks `kdrun -sc query=SHELL` with the line in COMP_LINE, and gets a candidate a line; behind a finished word
there is a space.
"""

import re
from typing import Final

__all__ = ["SCRIPTS", "protected", "words_of"]

BASH: Final = r"""
_kdrun() {
    local line typed="${COMP_LINE:0:$COMP_POINT}"
    local word="${typed##*[[:space:]]}"
    local known="${word%"${word##*["$COMP_WORDBREAKS"]}"}"  # which bash does not replace: what is before its last = or :
    COMPREPLY=()
    while IFS= read -r line; do
        COMPREPLY+=("${line#"$known"}")
    done < <(COMP_LINE="$COMP_LINE" COMP_POINT="$COMP_POINT" kdrun -sc query=bash 2> /dev/null)
}
complete -o nospace -F _kdrun kdrun
"""
ZSH: Final = r"""
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit }
_kdrun() {
    local line
    local -a finished begun
    for line in "${(@f)$(COMP_LINE="$LBUFFER" COMP_POINT= kdrun -sc query=zsh 2> /dev/null)}"; do
        if [[ $line == *' ' ]]; then finished+=("${line% }"); elif [[ -n $line ]]; then begun+=("$line"); fi
    done
    (( $#finished )) && compadd -- $finished
    (( $#begun )) && compadd -S '' -- $begun
    (( $#finished + $#begun ))
}
compdef _kdrun kdrun
"""
FISH: Final = r"""
function __kdrun_complete
    set -lx COMP_LINE (commandline -cp)
    set -lx COMP_POINT
    kdrun -sc query=fish 2> /dev/null
end
complete -c kdrun -f -a '(__kdrun_complete)'
"""
SCRIPTS: Final = {
    ("bash", "install"): BASH, ("bash", "uninstall"): "complete -r kdrun; unset -f _kdrun\n",
    ("zsh", "install"): ZSH, ("zsh", "uninstall"): "compdef -d kdrun; unfunction _kdrun\n",
    ("fish", "install"): FISH, ("fish", "uninstall"): "complete -e -c kdrun; functions -e __kdrun_complete\n",
}
PLAIN: Final = re.compile(r"[^\w@%+=:,./~\[\]{}*-]")


def words_of(line: str) -> list[str]:
    """The words of a line, the last may be empty; without the backslashes that protect a space or another sign."""
    return [re.sub(r"\\(.)", r"\1", word) for word in re.split(r"(?<!\\) +", line)]


def protected(word: str, shell: str) -> str:
    """A candidate as a shell's script takes it: bash wants its signs protected, the others do that themselves."""
    word, space = (word[:-1], " ") if word.endswith(" ") else (word, "")
    if shell == "fish":  # which knows by the last sign whether a word is finished
        return word
    return (PLAIN.sub(lambda sign: "\\" + sign[0], word) if shell == "bash" else word) + space
