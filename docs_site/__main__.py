"""`python -m docs_site`, from the top of the checkout: build the site, the README, or what Quarto needs."""
import argparse
import time


def main() -> None:
    "Do what the command line says; each job imports only what it needs."
    parser = argparse.ArgumentParser(prog="python -m docs_site", description="Build the site in _docs/ with pandoc, or …")
    parser.add_argument("--readme", action="store_true", help="write README.md and nbs/images/ from nbs/index.ipynb")
    parser.add_argument("--check", action="store_true", help="with --readme: write nothing, fail if they are not up to date")
    parser.add_argument("--katex", action="store_true", help="copy KaTeX to nbs/katex/, where `nbdev_docs` (Quarto) expects it")
    args = parser.parse_args()
    if args.check and not args.readme:
        parser.error("--check belongs to --readme")
    if args.readme:
        from docs_site.readme import check_readme, write_readme
        check_readme() if args.check else write_readme()
    elif args.katex:
        from pathlib import Path

        from docs_site.katex import copy_katex
        copy_katex(Path("nbs/katex"))
    else:
        from docs_site.site import build
        start = time.perf_counter()
        out = build()
        print(f"{len(list(out.glob('*.html')))} pages in {out} after {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
