"""Write docs/reference from the code: `python -m tools.reference`."""

from tools.reference.pages import FOLDER, WRITERS, page_text


def main() -> None:
    """Write every page that has changed, and print its path."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in WRITERS:
        path, text = FOLDER / name, page_text(name)
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            print(path.relative_to(FOLDER.parent.parent))


if __name__ == "__main__":
    main()
