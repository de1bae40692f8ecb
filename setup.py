"The package's build: everything it says comes from settings.ini."
from configparser import ConfigParser
from pathlib import Path
from setuptools import find_packages, setup

config = ConfigParser(delimiters=["="])
config.read("settings.ini", encoding="utf-8")
c = config["DEFAULT"]
site = c["doc_host"] + c["doc_baseurl"] + "/"
files = f"https://raw.githubusercontent.com/{c['user']}/{c['repo']}/v{c['version']}"  # PyPI shows no pictures of a relative path
readme = Path("README.md").read_text(encoding="utf-8")

setup(
    version=c["version"],
    description=c["description"],
    long_description=readme.replace("](nbs/", f"]({files}/nbs/"),
    long_description_content_type="text/markdown",
    author=c["author"],
    author_email=c["author_email"],
    url=site,
    project_urls={"Source": c["git_url"], "Issues": f"{c['git_url']}/issues", "Changelog": f"{c['git_url']}/blob/{c['branch']}/CHANGELOG.md"},
    keywords=c["keywords"],
    package_dir={"": "."},  # an editable install then finds docs_site from anywhere
    packages=find_packages(include=[c["lib_path"], f"{c['lib_path']}.*"]),
    install_requires=c["requirements"].split(),
    extras_require={extra: c[f"{extra}_requirements"].split() for extra in ("dev", "docs", "torch", "jax")},
    entry_points={
        "console_scripts": c["console_scripts"].split(),
        "nbdev": [f"{c['lib_name']}={c['lib_path']}._modidx:d"],  # lets other books link to our symbols
    },
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Education",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Programming Language :: Python :: 3.14",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
    zip_safe=False,
)
