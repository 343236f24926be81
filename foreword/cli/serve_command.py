"""``foreword serve FILES``: one base, every request with its own foreword."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Unpack

import typer

from foreword.cli import options
from foreword.cli.output import show, work

GROUP = "Use"
EXAMPLE = "foreword serve runs/ --base some/model"


class ServeFlags(options.OutputFlags):
    """What stands behind the server, and what it writes down."""

    engine: Annotated[str | None, typer.Option(metavar="NAME", help="Let llamacpp or vllm write, at --url.")]
    url: Annotated[str | None, typer.Option(metavar="URL", help="Where that engine listens.")]
    engine_dir: Annotated[Path | None, typer.Option(metavar="DIR", help="Where that engine looks for forewords.")]
    shadow: Annotated[
        list[str] | None, typer.Option(metavar="A=B", help="Ask B too, unseen, what A is asked. May be repeated.")
    ]
    calibrate: Annotated[
        list[str] | None, typer.Option(metavar="NAME=FILE", help="Labelled rows that NAME did not learn from.")
    ]
    request_log: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write requests and answers down; off by default.")
    ]
    log_days: Annotated[int | None, typer.Option(min=1, help="Days that they stay there.  [default: 30]")]


def command(
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[FILES]...", help="Forewords, and folders of them, which are watched."),
    ] = None,
    base: options.Base = None,
    device: Annotated[str | None, typer.Option(help="cuda, cpu, ...  [default: CUDA where there is one]")] = None,
    dtype: Annotated[
        str | None, typer.Option(help="float32, bfloat16, float16.  [default: as the first file was trained]")
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address; one that others can reach needs --keys.")] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Port.  [default: 8265]")] = None,
    keys: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Hashed keys, one of which a request needs.")
    ] = None,
    new_key: Annotated[
        str | None, typer.Option("--new-key", metavar="NAME", help="Add a key to --keys, show it once, and end.")
    ] = None,
    admin: Annotated[bool, typer.Option("--admin", help="The new key may add and remove forewords.")] = False,
    rows: Annotated[int | None, typer.Option("--rows", min=1, help="Answers at once.  [default: 16]")] = None,
    length: Annotated[
        int | None, typer.Option("--length", min=1, help="Tokens of prompt and answer.  [default: 1024]")
    ] = None,
    queue: Annotated[int | None, typer.Option(min=1, help="Requests that may wait.  [default: 256]")] = None,
    rate: Annotated[int | None, typer.Option(min=1, help="Requests of a key in a minute.  [default: any]")] = None,
    memory: Annotated[
        int | None, typer.Option(min=1, metavar="MIB", help="For forewords that are loaded.  [default: 1024]")
    ] = None,
    split: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=A,B", help="Two forewords behind a name; feedback decides. May be repeated."),
    ] = None,
    feedback: Annotated[Path | None, typer.Option(metavar="FILE", help="Keep the scores of splits there.")] = None,
    **shared: Unpack[ServeFlags],
) -> int:
    """Serve forewords with the API that every client speaks."""
    if new_key is not None:
        return _new_key(keys, new_key, admin, shared["json"])
    settings: dict[str, Any] = {
        "device": device, "dtype": dtype, "host": host, "port": port, "keys": keys, "rows": rows, "length": length,
        "queue": queue, "requests_a_minute": rate, "foreword_bytes": None if memory is None else memory << 20,
        "splits": tuple(split or ()) or None, "feedback": feedback, **_more(shared),
    }  # fmt: skip
    with work() as progress:
        from foreword import api

        given = {name: value for name, value in settings.items() if value is not None}
        result = api.serve(files or [], base=base, json_logs=shared["json"], progress=progress, **given)
    show(result, shared["json"])
    return 0


def _more(flags: ServeFlags) -> dict[str, Any]:
    """The settings among the shared flags."""
    return {
        "engine": flags["engine"],
        "url": flags["url"],
        "engine_dir": flags["engine_dir"],
        "request_log": flags["request_log"],
        "log_days": flags["log_days"],
        "shadows": tuple(flags["shadow"] or ()) or None,
        "calibrate": tuple(flags["calibrate"] or ()) or None,
    }


def _new_key(path: Path | None, name: str, admin: bool, machine: bool) -> int:
    from foreword.errors import SettingsError
    from foreword.serve.app.keys import new_key

    if path is None:
        raise SettingsError("a new key needs a file to stand in", where="--new-key", hint="add --keys FILE")
    show({"name": name, "key": new_key(path, name, admin)}, machine)
    return 0
