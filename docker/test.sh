#!/usr/bin/env bash
# Builds the image and tries it for real, the demo included: `make docker-test`. Ten to fifteen minutes, 8 GB of disk.
#
# Uses the Docker daemon that answers, if it has or can pull the base image. Else, as root, it starts one of its own on
# its own socket and data root, without touching the machine's network, and if no registry can be reached it makes a
# stand-in for the base image from Debian's packages under the official name. All of that is gone at the end.
#
# DOCKER_TEST_HOME: a folder to keep the own daemon's images in, so that a second run builds from its cache.
set -euo pipefail
cd "$(dirname "$0")/.."

IMAGE=crypto-lakehouse:test
BASE=python:$(sed -n 's/^ARG PYTHON=//p' docker/Dockerfile)-slim-bookworm
DEBIAN=bookworm
RATE=100 MINUTES=2
# Seconds. Each is several times what was measured on two busy cores; past it something hangs.
BASE_LIMIT=900 BUILD_LIMIT=2400 CHECK_LIMIT=120 DEMO_LIMIT=600

WORK=${DOCKER_TEST_HOME:-$(mktemp -d "${TMPDIR:-/tmp}/lakehouse-docker-XXXXXX")}
DAEMON=
CONTAINERS=()

say() { printf '%s  %s\n' "$(date +%H:%M:%S)" "$*"; }
die() {
    printf 'docker-test: %s\n' "$*" >&2
    exit 1
}

# Ends what this script started, by its pid or name; runs whatever happened before.
clean_up() {
    local code=$?
    trap - EXIT INT TERM
    for container in ${CONTAINERS[@]+"${CONTAINERS[@]}"}; do
        docker rm --force --volumes "$container" >/dev/null 2>&1 || true
    done
    if [ -n "$DAEMON" ]; then
        kill "$DAEMON" 2>/dev/null || true
        wait "$DAEMON" 2>/dev/null || true
        # dockerd leaves the mount of its containers' network namespace behind.
        awk -v work="$WORK/" 'index($2, work) == 1 { print $2 }' /proc/mounts | sort -r | xargs -r umount || true
    fi
    [ -n "${DOCKER_TEST_HOME:-}" ] || rm -rf --one-file-system "$WORK"
    [ "$code" = 0 ] || say "FAILED (exit code $code)"
    exit "$code"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# require COMMAND PACKAGE: installs the Debian package if the command is missing and we may.
require() {
    command -v "$1" >/dev/null && return
    { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; } || die "no $1; install the Debian package $2, or be root"
    say "installing $2"
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$2"; } \
        >"$WORK/apt.log" 2>&1 || die "cannot install $2: $(tail -n 1 "$WORK/apt.log")"
    hash -r
}

has_base() { docker image inspect "$BASE" >/dev/null 2>&1 || timeout 300 docker pull --quiet "$BASE" >/dev/null 2>&1; }

start_daemon() {
    [ "$(id -u)" = 0 ] || die "no Docker daemon that has or can pull $BASE; start one, or be root so that one is started here"
    require dockerd docker.io
    # No bridge and no packet filter rules: the machine's network stays as it is.
    dockerd --host "unix://$WORK/docker.sock" --data-root "$WORK/data" --exec-root "$WORK/exec" \
        --pidfile "$WORK/dockerd.pid" --bridge none --iptables=false >"$WORK/dockerd.log" 2>&1 &
    DAEMON=$!
    export DOCKER_HOST="unix://$WORK/docker.sock"
    for _ in $(seq 60); do
        docker version >/dev/null 2>&1 && return
        kill -0 "$DAEMON" 2>/dev/null || break
        sleep 1
    done
    die "dockerd did not come up: $(grep -v level=info "$WORK/dockerd.log" | tail -n 1)"
}

# A stand-in for the official image: Debian's own Python under its commands' names, the way this machine reaches
# Debian's, Python's and Maven's packages, and like the slim images neither manuals nor bytecode of the library.
make_base() {
    local root=$WORK/rootfs bundle=/etc/ssl/certs/ca-certificates.crt mirror
    require debootstrap debootstrap
    mirror=$(apt-get indextargets --format '$(SITE)' 2>/dev/null | head -n 1)
    if [ ! -e "$root/usr/bin/python3" ]; then
        say "no registry: making a stand-in for $BASE by debootstrap"
        timeout "$BASE_LIMIT" debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates \
            "$DEBIAN" "$root" ${mirror:+"$mirror"} >"$WORK/debootstrap.log" 2>&1 \
            || die "debootstrap: $(tail -n 1 "$WORK/debootstrap.log")"
    fi
    cp --dereference "$bundle" "$root$bundle"
    rm -rf "$root"/etc/apt/sources.list "$root"/etc/apt/sources.list.d
    cp -r /etc/apt/sources.list.d "$root/etc/apt/"
    for file in /etc/apt/sources.list /etc/apt/auth.conf /etc/pip.conf $(grep -rl Acquire /etc/apt/apt.conf.d || true); do
        [ ! -f "$file" ] || cp "$file" "$root$file"
    done
    cp -r /etc/apt/keyrings /etc/apt/trusted.gpg.d /etc/apt/auth.conf.d "$root/etc/apt/" 2>/dev/null || true
    cp -r /usr/share/keyrings "$root/usr/share/"
    ln -sf python3 "$root/usr/bin/python"
    rm -rf "$root"/usr/share/{doc,man}/* "$root"/var/cache/apt/archives/*.deb
    find "$root/usr/lib" -name '*.pyc' -delete

    local -a changes=(--change "ENV PIP_CERT=$bundle SSL_CERT_FILE=$bundle REQUESTS_CA_BUNDLE=$bundle NPM_CONFIG_CAFILE=$bundle" --change 'CMD ["python3"]')
    for name in PIP_INDEX_URL PIP_EXTRA_INDEX_URL PIP_DEFAULT_TIMEOUT NPM_CONFIG_REGISTRY LAKEHOUSE_MAVEN_URL http_proxy https_proxy no_proxy; do
        [ -z "${!name:-}" ] || changes+=(--change "ENV $name=${!name}")
    done
    tar -C "$root" --one-file-system -c . | docker import "${changes[@]}" - "$BASE" >/dev/null
    [ -n "${DOCKER_TEST_HOME:-}" ] || rm -rf --one-file-system "$root"
}

# in_image COMMAND…: its output, run in a container without network.
in_image() { timeout "$CHECK_LIMIT" docker run --rm --interactive --network none --entrypoint "$1" "$IMAGE" "${@:2}"; }

check_contents() {
    local found
    found=$(in_image id -u)
    [ "$found" != 0 ] || die "the image runs as root"
    say "ok: runs as user $found"
    found=$(in_image python - <<'PYTHON'
import importlib.util, sysconfig, sys
from pathlib import Path
assert not sys.dont_write_bytecode, "PYTHONDONTWRITEBYTECODE is set"
sites = [Path(sysconfig.get_path("purelib")), Path(sysconfig.get_path("stdlib"))]
names = ("lakehouse/settings/__init__.py", "assets/__init__.py", "definitions.py", "dagster/__init__.py", "pyspark/__init__.py")
wanted = [sites[0] / name for name in names] + [sites[1] / "json/__init__.py"]
lacking = [str(path) for path in wanted if not Path(importlib.util.cache_from_source(str(path))).is_file()]
assert not lacking, f"no bytecode of {lacking}"
import dagster_postgres, psycopg2
print(f"{sum(1 for _ in sites[0].rglob('*.pyc'))} of {sum(1 for _ in sites[0].rglob('*.py'))}")
PYTHON
    ) || die "bytecode or Postgres: ${found:-see above}"
    say "ok: bytecode of $found files; dagster-postgres can be imported"
    found=$(in_image python -c 'from lakehouse.runtime.jars import broker_jars, is_given, spark_jars
assert is_given()
print(len(spark_jars()), "Spark and", len(broker_jars()), "broker jars in", spark_jars()[0].parent.parent)')
    say "ok: $found"
    in_image test ! -e /opt/dagster/.env -a ! -e /build || die "the image holds files of the build"
    docker run --rm --network none "$IMAGE" doctor || die "lakehouse doctor finds something missing"
    say "ok: lakehouse doctor"
}

check_compose() {
    local -a compose=(docker compose)
    docker compose version >/dev/null 2>&1 || { require docker-compose docker-compose && compose=(docker-compose); }
    POSTGRES_PASSWORD=none "${compose[@]}" --file docker/compose.yaml --env-file docker/.env.example config >"$WORK/compose.out" \
        || die "${compose[*]} refuses docker/compose.yaml"
    if POSTGRES_PASSWORD='' "${compose[@]}" --file docker/compose.yaml --env-file docker/.env.example config >/dev/null 2>&1; then
        die "docker/compose.yaml starts without a password"
    fi
    say "ok: ${compose[*]} config, and not without a password"
}

# The demo in a container that has no network at all: everything it needs is in the image. Its health is the UI's.
check_demo() {
    local container health='' code first
    # Without a network Docker writes no line for the container's name into its hosts file; `localhost` has one.
    container=$(docker run --detach --network none --hostname localhost "$IMAGE" demo --minutes "$MINUTES" --rate "$RATE")
    CONTAINERS+=("$container")
    local ends=$((SECONDS + DEMO_LIMIT))
    while [ "$(docker inspect --format '{{.State.Running}}' "$container")" = true ]; do
        ((SECONDS < ends)) || die "the demo still runs after $DEMO_LIMIT s: $(docker logs --tail 3 "$container" 2>&1)"
        [ "$health" = healthy ] || health=$(docker inspect --format '{{.State.Health.Status}}' "$container")
        sleep 2
    done
    docker logs "$container" >"$WORK/demo.log" 2>&1
    sed 's/^/    | /' "$WORK/demo.log"
    code=$(docker inspect --format '{{.State.ExitCode}}' "$container")
    [ "$code" = 0 ] || die "the demo ended with exit code $code"
    first=$(sed -En 's/.*first bars after[^0-9]+([0-9]+) s.*/\1/p' "$WORK/demo.log" | head -n 1)
    [ -n "$first" ] || die "the demo reached no bar"
    grep -Eq 'gold/bars_1m, rows[^0-9]+[1-9]' "$WORK/demo.log" || die "the demo counted no bar"
    [ "$health" = healthy ] || die "Dagster's UI never answered in the container (health: $health)"
    say "ok: demo without a network: first bars after $first s, UI healthy, exit code 0"
}

mkdir -p "$WORK"
# The client may have Debian's name for it only after the package is there.
if ! command -v docker >/dev/null || ! docker info >/dev/null 2>&1 || ! has_base; then
    start_daemon
    has_base || make_base
fi
say "Docker $(docker version --format '{{.Server.Version}}'), base image $BASE there"

began=$SECONDS
# Host network: the build reaches whatever this machine reaches, also through a proxy on it.
timeout "$BUILD_LIMIT" docker build --network host --file docker/Dockerfile --tag "$IMAGE" . \
    >"$WORK/build.log" 2>&1 || {
    tail -n 30 "$WORK/build.log" >&2
    die "docker build"
}
say "ok: built in $((SECONDS - began)) s, $(($(docker image inspect --format '{{.Size}}' "$IMAGE") / 1000000)) MB"
check_contents
check_compose
check_demo
say "docker-test passed"
