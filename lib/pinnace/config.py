"""Configuration: what may be set, where each value came from.

Later sources override earlier ones: the defaults below, ``/etc/pinnace/pinnace.toml``,
``/etc/pinnace/pinnace.d/*.toml`` in the order of their names, the user's
``~/.config/pinnace/pinnace.toml``, the environment (``PINNACE_STORE`` for ``store`` and so
on). This module is on the launch path: standard library alone, TOML read only if a file exists.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping

from pinnace import paths
from pinnace.basis import Basis
from pinnace.errors import ConfigurationError
from pinnace.reference import registry_host
from pinnace.registry_rules import KEYS as _REGISTRY_KEYS
from pinnace.registry_rules import Registry
from pinnace.tuples import NamedTuple

TYPE_CHECKING = False  # typing itself costs milliseconds of every start
if TYPE_CHECKING:
    from typing import Any

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


class Key(NamedTuple):
    """One setting: how its text is read, its default and what it means.

    ``system``: only the administrator's files may set it.
    """

    name: str
    parse: Callable[[Any], Any]
    default: Any
    help: str
    system: bool = False


class Settings:
    """Every value in force and the source of each.

    ``environment`` is where credentials are looked for besides files; it may hold some. ``basis`` takes
    what a start rests on besides.
    """

    def __init__(self, values: dict[str, Any], origins: dict[str, str]) -> None:
        self.values = values
        self.origins = origins
        self.registries: dict[str, Registry] = {}
        self.environment: Mapping[str, str] = {}
        self.basis = Basis()

    def __getitem__(self, name: str) -> Any:
        return self.values[name]

    def set(self, name: str, value: str, origin: str) -> None:
        """Set a value from an option. Raises ConfigurationError."""
        _set(self, name, value, origin)

    def registry(self, host: str) -> Registry:
        """The rules for ``host`` (``name`` or ``name:port``)."""
        return self.registries.get(host, Registry())


def _text(value: Any) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise ValueError("a string is expected")
    return value


def _path(value: Any) -> str:
    path = os.path.expanduser(_text(value))
    if path and not os.path.isabs(path):
        raise ValueError("an absolute path is expected")
    return path


def _layer(value: Any) -> str:
    """tmpfs, or a path."""
    try:
        return "tmpfs" if value == "tmpfs" else _path(value) or "tmpfs"
    except ValueError:
        raise ValueError("tmpfs, or an absolute path, is expected") from None


def _paths(value: Any) -> tuple[str, ...]:
    """Absolute paths: a list or, in a variable, separated by colons as in PATH."""
    items = value.split(":") if isinstance(value, str) else value
    if not isinstance(items, (list, tuple)):
        raise ValueError("a list of absolute paths is expected")
    return tuple(path for path in map(_path, items) if path)


def _boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if value in ("1", "true", "yes", "y"):
        return True
    if value in ("0", "false", "no", "n"):
        return False
    raise ValueError("true or false is expected")


def _integer(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise ValueError("a whole number is expected")
    try:
        number = int(value)
    except ValueError:
        raise ValueError("a whole number is expected") from None
    if number < 0:
        raise ValueError("a number of at least 0 is expected")
    return number


def _size(value: Any) -> int:
    """Bytes, as a number or with a suffix K, M, G or T (powers of 1024)."""
    text = str(value).strip().lower().removesuffix("ib").removesuffix("b")
    suffix = text[-1:] if text[-1:].isalpha() else ""
    digits = text[: len(text) - len(suffix)]
    if not digits.isdigit() or suffix not in _UNITS:
        raise ValueError("a size such as 4096, 512M or 2G is expected")
    return int(digits) * _UNITS[suffix]


def _duration(value: Any) -> int:
    """Seconds, as a number or with a suffix s, m, h, d or w."""
    text = str(value).strip().lower()
    suffix = text[-1:] if text[-1:].isalpha() else "s"
    digits = text.removesuffix(suffix)
    if not (digits.isascii() and digits.isdigit()) or suffix not in _SECONDS:
        raise ValueError("a time such as 3600, 12h or 30d is expected")
    return int(digits) * _SECONDS[suffix]


def _share(value: Any) -> str:
    """A part of something, such as 80%, or a size in bytes."""
    text = str(value).strip()
    if not text.endswith("%"):
        return str(_size(text))
    if not (text.isascii() and text[:-1].isdigit()) or int(text[:-1]) > 100:
        raise ValueError("a percentage such as 80%, or a size such as 200G, is expected")
    return text


def _one_of(*choices: str) -> Callable[[Any], str]:
    def parse(value: Any) -> str:
        if value not in choices:
            raise ValueError("one of " + ", ".join(choices) + " is expected")
        return str(value)

    return parse


def default_store(environment: Mapping[str, str]) -> str:
    """The user's own store, ``$XDG_CACHE_HOME/pinnace``. Raises ConfigurationError if he has no home."""
    cache = _user_directory(environment, "XDG_CACHE_HOME", ".cache")
    if not cache:
        raise ConfigurationError(
            "there is no place for the image store: the user has no home directory",
            hint="set PINNACE_STORE or HOME to an absolute path",
        )
    return os.path.join(cache, "pinnace")


def _user_directory(environment: Mapping[str, str], variable: str, default: str) -> str:
    """The directory in ``variable``, else ``default`` in the user's home; empty if he has none.

    A relative path would be another place in every working directory: it counts for nothing, as
    the XDG base directory specification has it.
    """
    own = environment.get(variable, "")
    if own.startswith("/"):
        return own
    home = environment.get("HOME", "")
    if not home.startswith("/"):
        import pwd

        try:
            home = pwd.getpwuid(os.getuid()).pw_dir
        except KeyError:
            return ""
    return os.path.join(home, default) if home.startswith("/") else ""


KEYS = (
    Key("store", _path, "", "directory of the image store; empty: $XDG_CACHE_HOME/pinnace"),
    Key("additional_stores", _paths, (), "directories of further stores, in order, that are only read"),
    Key(
        "pull",
        _one_of("always", "if-missing", "never"),
        "if-missing",
        "when a registry is asked: always, if-missing (a tag again after tag_ttl) or never",
    ),
    Key("tag_ttl", _integer, 3600, "seconds for which a tag's digest is not asked again"),
    Key("connections", _integer, 4, "layers downloaded at the same time"),
    Key("connections_per_host", _integer, 8, "connections to one registry host at the same time"),
    Key("part_size", _size, 4 << 20, "bytes of the parts in which large layers are fetched; 0: whole"),
    Key("retries", _integer, 5, "attempts after one that failed without any progress"),
    Key("connect_timeout", _integer, 30, "seconds to wait for a registry to accept a connection"),
    Key("stall_timeout", _integer, 60, "seconds without a byte after which a transfer is given up"),
    Key("compressor", _one_of("zstd", "lz4", "gzip"), "zstd", "compression of squashfs files"),
    Key("compression_level", _integer, 1, "level of the compressor (ignored by lz4)"),
    Key("block_size", _size, 128 << 10, "squashfs block size, a power of two from 4K to 1M"),
    Key("max_layer_size", _size, 256 << 30, "bytes a layer may unpack to before it is refused"),
    Key(
        "max_layer_ratio",
        _integer,
        250,
        "times its compressed size, and 4 GiB, that a layer may unpack to; 0 for no such limit",
    ),
    Key("node_store", _path, "", "directory on the node's disk for copies of images; empty: none are made"),
    Key("node_quota", _size, 64 << 30, "bytes of a user's copies there; the longest unused go; 0: no limit"),
    Key(
        "copy_up",
        _one_of("auto", "always", "never"),
        "auto",
        "which images are copied there before they are mounted: auto, those on network file systems",
    ),
    Key("copy_up_max", _size, 32 << 30, "bytes of the largest image that is copied by copy_up = auto"),
    Key("copy_up_parallel", _integer, 2, "copies that a user makes from one file system at the same time"),
    Key("unpack_max", _size, 64 << 30, "bytes an image may take when it is unpacked; 0 for no limit"),
    Key("gc_max_age", _duration, 0, "how long after its last use gc removes an image; 0: however old it is"),
    Key("gc_quota", _size, 0, "bytes beyond which gc, and each pull, remove the longest unused; 0: no limit"),
    Key("gc_low_water", _share, "80%", "what gc then leaves: a part of gc_quota, or a size"),
    Key(
        "gc_job_lease",
        _duration,
        7 * 86400,
        "how long a job keeps its images if Slurm cannot be asked for it",
    ),
    Key(
        "backend",
        _one_of("auto", "squashfuse", "unpack"),
        "auto",
        "what mounts images: squashfuse, unpack (once, to plain directories) or auto, the first that can",
    ),
    Key("overlay", _one_of("auto", "kernel", "fuse-overlayfs"), "auto", "what makes an image writable"),
    Key(
        "plan_cache",
        _boolean,
        True,
        "keep the plan of a start, so that the next like it needs no Python",
    ),
    Key("timings", _boolean, False, "tell what each phase of a start has taken"),
    Key(
        "writable_layer",
        _layer,
        "tmpfs",
        "where what containers write lies: tmpfs, in memory, or a directory on a disk of the node",
    ),
    Key(
        "writable_size",
        _size,
        0,
        "limit of the writable layer in memory; 0: half of what the job, or the node, has",
    ),
    Key("writable", _boolean, False, "leave a container's root writable unless asked otherwise"),
    Key("mount_home", _boolean, False, "mount the user's home unless asked otherwise"),
    Key("remap_root", _boolean, False, "show the user as root unless asked otherwise"),
    Key(
        "entrypoint",
        _boolean,
        False,
        "execute the image's entry point before the tasks of a step unless asked otherwise",
    ),
    Key(
        "mounts_dir",
        _paths,
        (),
        "directories of *.fstab files that every container has; empty: /etc/pinnace/mounts.d",
        system=True,
    ),
    Key(
        "environ_dir",
        _paths,
        (),
        "directories of *.env files that every container has; empty: /etc/pinnace/environ.d",
        system=True,
    ),
    Key(
        "hooks_dir",
        _paths,
        (),
        "directories of *.sh programs that are run for every container; empty: /etc/pinnace/hooks.d",
        system=True,
    ),
    Key(
        "user_directories",
        _boolean,
        True,
        "read such files in users' ~/.config/pinnace as well, after these",
        system=True,
    ),
    Key("squashfuse", _text, "", "squashfuse program; empty: squashfuse_ll or squashfuse on the PATH"),
    Key("fuse_overlayfs", _text, "", "fuse-overlayfs program; empty: fuse-overlayfs on the PATH"),
    Key(
        "credential_commands",
        _boolean,
        False,
        "run $(command) in enroot's credentials; set in /etc/pinnace alone",
        system=True,
    ),
)
_KEYS = {key.name: key for key in KEYS}
#: Variables by which the user's own directories are found, and `~` in a path.
_DIRECTORIES = ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME")
#: Keys for directories of files that every container is made with, and the standard name of each.
_DROP_INS = {"mounts_dir": "mounts.d", "environ_dir": "environ.d", "hooks_dir": "hooks.d"}


def load(environment: Mapping[str, str] | None = None, *, directory: str = "") -> Settings:
    """Read every source. Raises ConfigurationError naming file, key and what is expected."""
    environment = os.environ if environment is None else environment
    settings = Settings({key.name: key.default for key in KEYS}, {key.name: "default" for key in KEYS})
    settings.environment = environment
    for variable in _DIRECTORIES:
        settings.basis.variable(variable, environment)
    for file in _system_files(directory or paths.SYSCONFDIR, settings.basis):
        _apply_file(settings, file, system=True)
    for file in _own_files(environment):
        _apply_file(settings, file)
    for key in KEYS:
        variable = "PINNACE_" + key.name.upper()
        settings.basis.variable(variable, environment)
        if variable in environment:
            _set(settings, key.name, environment[variable], variable)
    if not settings["store"]:
        settings.values["store"] = default_store(environment)
    for name in _DROP_INS:
        settings.values[name] = _drop_ins(settings, name, directory or paths.SYSCONFDIR, environment)
    return settings


def _drop_ins(
    settings: Settings, name: str, directory: str, environment: Mapping[str, str]
) -> tuple[str, ...]:
    """The directories in force: those that are configured or the standard one, then the user's own."""
    standard = _DROP_INS[name]
    found = settings[name] or (os.path.join(directory, standard),)
    own = _own_directory(environment) if settings["user_directories"] else ""
    return (*found, os.path.join(own, standard)) if own else tuple(found)


def _system_files(directory: str, basis: Basis) -> list[str]:
    drop_ins = os.path.join(directory, "pinnace.d")
    basis.file(drop_ins)
    try:
        names = sorted(name for name in os.listdir(drop_ins) if name.endswith(".toml"))
    except OSError:
        names = []
    return [os.path.join(directory, "pinnace.toml"), *(os.path.join(drop_ins, name) for name in names)]


def _own_files(environment: Mapping[str, str]) -> list[str]:
    own = _own_directory(environment)
    return [os.path.join(own, "pinnace.toml")] if own else []


def _own_directory(environment: Mapping[str, str]) -> str:
    own = _user_directory(environment, "XDG_CONFIG_HOME", ".config")
    return os.path.join(own, "pinnace") if own else ""


def _apply_file(settings: Settings, path: str, *, system: bool = False) -> None:
    settings.basis.file(path)
    if not os.path.exists(path):
        return
    try:
        with open(path, encoding="utf-8") as stream:
            text = stream.read()
        document = _parsed_toml(text)
    except ValueError as error:  # not TOML, or not UTF-8
        raise ConfigurationError(f"{path} is not valid TOML: {error}", hint="mend the file") from None
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from None
    for name, value in document.items():
        if name == "registries":
            _apply_registries(settings, value, path)
        else:
            _set(settings, name, value, path, system=system)


def _parsed_toml(text: str) -> dict[str, Any]:
    # Most sites leave the installed file as it is, all comments: the parser would cost every start more
    # than all the rest of the configuration.
    if all(line.startswith("#") or not line for line in text.splitlines()):
        return {}
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib

    return tomllib.loads(text)


def _apply_registries(settings: Settings, tables: Any, origin: str) -> None:
    if not isinstance(tables, dict):
        raise ConfigurationError("registries is not a table", context=origin)
    for host, table in tables.items():
        if not isinstance(table, dict):
            raise ConfigurationError(f"registries.{host} is not a table", context=origin)
        rules = {}
        for name, value in table.items():
            if name not in _REGISTRY_KEYS:
                raise _unknown(name, list(_REGISTRY_KEYS), f'{origin}, [registries."{host}"]')
            rules[name] = _parsed(_REGISTRY_KEYS[name], value, f"registries.{host}.{name}", origin)
        host = registry_host(host)
        settings.registries[host] = settings.registry(host)._replace(**rules)
        settings.origins[f"registries.{host}"] = origin


def _set(settings: Settings, name: str, value: Any, origin: str, *, system: bool = False) -> None:
    if name not in _KEYS:
        raise _unknown(name, [*_KEYS, "registries"], origin)
    if _KEYS[name].system and not system:
        raise ConfigurationError(
            f"{name} is the administrator's to set", context=origin, hint="remove it there"
        )
    settings.values[name] = _parsed(_KEYS[name].parse, value, name, origin)
    settings.origins[name] = origin


def _parsed(parse: Callable[[Any], Any], value: Any, name: str, origin: str) -> Any:
    try:
        return parse(value)
    except ValueError as error:
        raise ConfigurationError(f"{name} = {value!r} is not possible: {error}", context=origin) from None


def _unknown(name: str, known: list[str], origin: str) -> ConfigurationError:
    import difflib

    near = difflib.get_close_matches(name, known, 1)
    hint = f"did you mean {near[0]}?" if near else "`pinnace config` lists the keys there are"
    return ConfigurationError(f"unknown key {name}", context=origin, hint=hint)
