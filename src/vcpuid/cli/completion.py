"""vcpuid completion: the script with which a shell asks what can be typed next, and the answers in the form it takes.

This is click's completion with scripts of our own, for what click's lack: bash cuts words at `=` and `:`, as in `pmu=on` and `live:3`;
fish's answers were cut at commas, as in `host,+avx2`; words and files may be offered side by side; `--option=value` is completed by all
three; and no blank follows `name=`. What goes wrong in the middle of typing is no news for a prompt: then nothing is offered.
"""

from __future__ import annotations

import os
import warnings

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    FishComplete,
    ShellComplete,
    ZshComplete,
    add_completion_class,
    split_arg_string,
)

VARIABLE = "_VCPUID_COMPLETE"
"""The environment variable by which a shell asks, as click derives it from the program's name."""

_END = "\0"
"""Marks the cursor while a line is split: behind a blank, it is a word of its own."""


class _Shell(ShellComplete):
    """A shell that tells the line up to the cursor, in COMP_WORDS."""

    whole = ""
    """The word at the cursor, without its quotes."""

    def get_completion_args(self) -> tuple[list[str], str]:
        """Split the line into the words before the cursor's, and that one."""
        *words, last = split_arg_string(os.environ["COMP_WORDS"] + _END)
        self.whole = last.removesuffix(_END)
        return words[1:], self.whole

    def complete(self) -> str:
        """Answer; with nothing, whatever goes wrong, and without a remark."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return super().complete()
        except Exception:
            return ""


class Bash(_Shell, BashComplete):
    """bash, which wants what replaces the end of the word behind the last `=`, `:` or `@`: that end is in COMP_CWORD."""

    source_template = """\
%(complete_func)s() {
    local kind value
    COMPREPLY=()
    while IFS=, read -r kind value; do
        if [[ $kind == file ]]; then
            compopt -o filenames -o default
            mapfile -t -O ${#COMPREPLY[@]} COMPREPLY < <(compgen -f -- "$value")
        elif [[ $kind == plain ]]; then
            [[ $value == *= ]] && compopt -o nospace
            COMPREPLY+=("$value")
        fi
    done < <(env COMP_WORDS="${COMP_LINE:0:COMP_POINT}" COMP_CWORD="$2" %(complete_var)s=bash_complete "${1/#\\~\\//$HOME/}" 2>/dev/null)
}
complete -o nosort -F %(complete_func)s %(prog_name)s
"""

    def format_completion(self, item: CompletionItem) -> str:
        """Write an answer as `kind,text`."""
        option = self.whole[: self.whole.find("=") + 1] if self.whole.startswith("-") else ""
        ends = (os.environ["COMP_CWORD"], "".join(split_arg_string(os.environ["COMP_CWORD"])), self.whole)
        replaced = next(end for end in ends if self.whole.endswith(end))
        return f"{item.type},{(option + item.value)[len(self.whole) - len(replaced) :]}"


class Zsh(_Shell, ZshComplete):
    """zsh, which evaluates the script or has it as the file `_vcpuid` in its fpath."""

    source_template = """\
#compdef %(prog_name)s
%(complete_func)s() {
    local kind told files
    local -a closed open
    for kind told in "${(@f)$(env COMP_WORDS="${words[1,CURRENT]}" %(complete_var)s=zsh_complete ${~words[1]} 2>/dev/null)}"; do
        case $kind in
            file) files=yes ;;
            plain) if [[ ${told%%%%:*} == *= ]]; then open+=("$told"); else closed+=("$told"); fi ;;
        esac
    done
    compset -P 1 '--*='
    (( $#closed )) && _describe -V value closed -U -i "$IPREFIX"
    (( $#open )) && _describe -V value open -U -i "$IPREFIX" -S ''
    [[ -n $files ]] && _files
}
if [[ $funcstack[1] == %(complete_func)s ]]; then
    %(complete_func)s "$@"
else
    compdef %(complete_func)s %(prog_name)s
fi
"""

    @property
    def func_name(self) -> str:
        """Name the function as the file, which it then takes the place of."""
        return f"_{self.prog_name}"

    def format_completion(self, item: CompletionItem) -> str:
        """Write an answer as two lines: its kind, and `text:what it is`."""
        text = item.value.replace(":", "\\:")
        return f"{item.type}\n{text}:{item.help}" if item.help else f"{item.type}\n{text}"


class Fish(_Shell, FishComplete):
    """fish."""

    source_template = """\
function %(complete_func)s
    set -l option (string match -r -- '^--[^=]+=' (commandline -ct))
    set -l line (commandline -cp | string join ' ')
    for answer in (env COMP_WORDS="$line" %(complete_var)s=fish_complete %(prog_name)s 2>/dev/null)
        set -l told (string split -m 1 , -- $answer)
        switch $told[1]
            case file
                for path in (__fish_complete_path $told[2])
                    echo "$option$path"
                end
            case plain
                echo "$option$told[2]"
        end
    end
end
complete --no-files --keep-order --command %(prog_name)s --arguments '(%(complete_func)s)'
"""


SHELLS: dict[str, type[_Shell]] = {"bash": Bash, "zsh": Zsh, "fish": Fish}


def register() -> None:
    """Let click answer these shells by the classes of this module."""
    for name, shell in SHELLS.items():
        add_completion_class(shell, name)


@click.command(name="completion")
@click.argument("shell", type=click.Choice(list(SHELLS)))
def command(shell: str) -> None:
    """Print the completion script for bash, zsh or fish.

    To turn it on: eval "$(vcpuid completion bash)" in ~/.bashrc, eval "$(vcpuid completion zsh)" in ~/.zshrc behind compinit, or
    vcpuid completion fish | source in ~/.config/fish/config.fish.
    """
    print(SHELLS[shell](click.get_current_context().find_root().command, {}, "vcpuid", VARIABLE).source(), end="")
