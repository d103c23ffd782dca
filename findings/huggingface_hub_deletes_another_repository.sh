#!/bin/sh
# huggingface_hub 2.4.0: `scan_cache_dir(...).delete_revisions(commit)` where two repositories have the same commit.
#
# What one would think: the hash of a revision that was taken from a repository's scan deletes the revision of that one.
# What happens: repositories may share commits (a duplicate or a renamed copy keeps its history), the hash is all that is
# said, and the first repository that has it, in no order, loses the revision; the other one keeps it.
# Output seen:
#   two repositories have the commit; asked for that of some/model, then for that of some/copy
#   the same one repository is to be deleted both times
# What to do: delete by repository: take the one `repo` from the scan and remove its folder, or its revisions' paths.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env" > /dev/null
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check huggingface_hub==2.4.0 2> /dev/null
export HF_HOME="$folder/home"
"$folder/env/bin/python" - "$folder/cache" > "$folder/seen" <<'EOF'
import sys
from pathlib import Path

from huggingface_hub import scan_cache_dir

cache, commit = Path(sys.argv[1]), "0" * 40
for name in ("model", "copy"):
    place = cache / f"models--some--{name}"
    (place / "blobs").mkdir(parents=True)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(commit)
    (place / "snapshots" / commit).mkdir(parents=True)
    (place / "blobs" / "b").write_text("{}")
    (place / "snapshots" / commit / "config.json").symlink_to("../../blobs/b")
scanned = scan_cache_dir(cache)
doomed = []
for name in ("some/model", "some/copy"):
    repo = next(repo for repo in scanned.repos if repo.repo_id == name)
    (revision,) = repo.revisions
    doomed.append({path.name for path in scanned.delete_revisions(revision.commit_hash).repos})
print("two repositories have the commit; asked for that of some/model, then for that of some/copy")
same = "the same one repository is" if doomed[0] == doomed[1] and len(doomed[0]) == 1 else f"{doomed} are"
print(f"{same} to be deleted both times")
EOF
cat "$folder/seen"
grep -q '^the same one repository is to be deleted both times$' "$folder/seen"
