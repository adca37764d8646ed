# Open files and working folders go by their new names, however often the old ones were opened.
python3 - <<'END'
import os

here = os.getcwd()


def name(descriptor):
    return os.readlink(f"/proc/self/fd/{descriptor}").replace(here, "")


os.mkdir("old")
open("old/file", "w").close()
os.chdir("old")
folder = os.open("../old", os.O_RDONLY)
os.rename("../old", "../new")
print(os.getcwd().replace(here, ""), name(folder))

os.chdir("..")
files = [os.open("new/file", flags) for flags in (os.O_RDONLY, os.O_RDONLY, os.O_WRONLY | os.O_CREAT, os.O_PATH)]
os.stat("new/file")
os.rename("new/file", "new/other")
print(*[name(file) for file in files])
os.unlink("new/other")
print(*[name(file) for file in files])

# A file of that name is another one.
another = os.open("new/other", os.O_RDWR | os.O_CREAT)
print(name(another), os.fstat(another).st_nlink, *[os.fstat(file).st_nlink for file in files])
END
