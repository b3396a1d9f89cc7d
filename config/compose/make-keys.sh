#!/bin/sh
# Writes fresh keys for docker-compose.yml into secrets/, and tells compose in .env where they are.
# Usage: make-keys.sh <command that runs keygen>, in the directory of docker-compose.yml.
set -eu

if [ -e secrets ]; then
    echo "secrets/ is here already; keys are not replaced: tokens sealed with them would be lost" >&2
    exit 1
fi

keys=$("$@")
client_key=$("$@" | sed -n 's/^SIDECAR_CONTROL_KEYS=[^:]*://p')
value() { printf '%s\n' "$keys" | sed -n "s/^$1=//p"; }

# The directory is closed to others; the files are readable, since the container has another user.
umask 022
mkdir -m 700 secrets
value SIDECAR_ENCRYPTION_KEYS > secrets/encryption_keys
value SIDECAR_HASH_KEY > secrets/hash_key
value SIDECAR_CONTROL_KEYS > secrets/control_keys
printf 'app:%s\n' "$client_key" > secrets/client_keys
for file in secrets/*; do
    if ! [ -s "$file" ]; then
        echo "keygen gave no value for $file" >&2
        exit 1
    fi
done
grep -qs '^KEYS_DIR=' .env || echo 'KEYS_DIR=./secrets' >> .env

echo "keys are in secrets/: the app's is behind 'app:' in client_keys,"
echo "the one of the grants API behind 'operator:' in control_keys"
