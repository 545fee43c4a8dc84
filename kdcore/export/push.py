"""A published folder to the Hugging Face hub: the only place that sends anything of a run away, on a person's word."""

from __future__ import annotations

from pathlib import Path

from kdcore.errors import UserError
from kdcore.export.folder import CARD, FACTS, read_facts

_COMPLETE = ("config.json", "model.safetensors", "tokenizer.json", CARD, FACTS)


def push_folder(folder: Path, repository: str, private: bool = True) -> str:
    """Uploads what `kdcore export` wrote; returns the page of the repository, which is made where there is none.

    huggingface_hub finds the person's own login; nothing of it is read or kept here.

    Args:
        repository: organisation/name.

    Raises:
        UserError: the folder is none that `kdcore export` wrote, the name is not an id, or the hub did not take it.
    """
    check_complete(folder)
    check_repository(repository)
    from huggingface_hub import create_repo, errors, upload_folder

    # of its HTTP client, whose package is another in each major version
    http_error: type[Exception] = errors.HTTPError  # type: ignore[attr-defined]

    try:
        page = create_repo(repository, private=private, exist_ok=True)
        upload_folder(repo_id=repository, folder_path=folder, commit_message="Add a distilled student")
    except errors.LocalTokenNotFoundError as error:
        raise UserError("--to", "nobody is logged in at the hub", "log in with `hf auth login`") from error
    except (http_error, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError("--to", f"the hub did not take it ({reason})", "check login, name and network") from error
    return str(page)


def check_complete(folder: Path) -> None:
    """Raises UserError where the folder is none that `kdcore export` wrote."""
    missing = [name for name in _COMPLETE if not (folder / name).is_file()]
    if missing:
        raise UserError("folder", f"{folder} has no {missing[0]}", "name a folder that `kdcore export` wrote")
    read_facts(folder)


def check_repository(name: str) -> None:
    """Raises UserError where the name is not organisation/name, as the hub writes ids."""
    from huggingface_hub.utils import HFValidationError, validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(name)
    except HFValidationError:
        name = ""
    if name.count("/") != 1:
        raise UserError("--to", "this is not an id of the hub", "write it as organisation/name")
