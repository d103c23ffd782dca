#!/usr/bin/env bash
# Installs the system packages that tests use, where that needs no password. Elsewhere those tests are skipped, with
# their reason. This is the one list of them.
set -euo pipefail

#   alsa-utils            a human recording: /usr/share/sounds/alsa/Front_Center.wav
#   chromium              the web page's browser
#   flite, espeak-ng      speak questions
#   libportaudio2         what the sounddevice wheel for Linux opens
#   pulseaudio, pulseaudio-utils, libasound2-plugins   a sound card made of software (tests/sound_card.py)
#   nginx                 two servers behind it (examples/nginx.conf)
#   libopenblas0-pthread  MLX's CPU wheel brings a slow BLAS, see with_blas.sh
apt_packages=(
    alsa-utils chromium espeak-ng flite libportaudio2 libopenblas0-pthread nginx
    pulseaudio pulseaudio-utils libasound2-plugins
)
brew_packages=(espeak-ng flite)

[ "${SYSTEM_PACKAGES:-yes}" != no ] || exit 0

if command -v apt-get > /dev/null; then
    missing=()
    for package in "${apt_packages[@]}"; do
        dpkg-query --show --showformat='${Status}' "$package" 2> /dev/null | grep -q 'ok installed' || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || exit 0
    if [ "$(id -u)" = 0 ]; then
        root=()
    elif sudo -n true 2> /dev/null; then
        root=(sudo -n)
    else
        echo "not installed, for want of root: ${missing[*]}; the tests that use them are skipped"
        exit 0
    fi
    echo "installing ${missing[*]}"
    # --no-remove: where PipeWire plays, pulseaudio would take its place
    install=("${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends --no-remove)
    "${install[@]}" "${missing[@]}" > /dev/null 2>&1 && exit 0
    "${root[@]}" apt-get update -qq > /dev/null || true  # a new machine has no package lists, an old one stale ones
    "${install[@]}" "${missing[@]}" > /dev/null || echo "could not install ${missing[*]}; the tests that use them are skipped"
elif command -v brew > /dev/null; then
    for package in "${brew_packages[@]}"; do
        brew list "$package" > /dev/null 2>&1 || brew install --quiet "$package" ||
            echo "could not install $package; the tests that use it are skipped"
    done
else
    echo "no apt-get and no brew here; the tests that use system packages are skipped"
fi
