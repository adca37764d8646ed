# git: a repository's life: commits, branches, merge, clone, gc, log, fsck.
set -eu
export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b GIT_AUTHOR_DATE='@1000000000 +0000' GIT_COMMITTER_DATE='@1000000000 +0000' GIT_CONFIG_NOSYSTEM=1
export HOME=$PWD
git init -q -b main repo; cd repo
for i in $(seq 1 12); do seq 1 $((i * 100)) > file$i; git add .; git commit -qm "commit $i"; done
git checkout -q -b side HEAD~6; echo side > side; git add side; git commit -qm side; git checkout -q main
git merge -q -m merge side; git log --oneline --graph | head -n 20; git status --short; git gc -q; git fsck 2>&1; git count-objects | awk '{ print $1 }'
cd ..; git clone -q repo copy; git -C copy log -1 --format=%H; diff -r --exclude=.git repo copy && echo same
git -C copy rev-list --all | wc -l; git -C copy diff --stat HEAD~3 | tail -n1; git -C copy grep -c 42 | head -n3
