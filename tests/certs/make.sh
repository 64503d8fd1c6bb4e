#!/bin/sh
# Makes the certificates of the tests: one authority, and a server and a client that it vouches for. Valid for a century.
set -e
cd "$(dirname "$0")"
tmp=$(mktemp -d)
trap 'rm -r "$tmp"' EXIT
key() { openssl ecparam -name prime256v1 -genkey -noout -out "$tmp/$1.key"; }
key ca
openssl req -x509 -new -key "$tmp/ca.key" -sha256 -days 36500 -subj "/CN=Weft test authority" -out ca.pem \
    -addext "keyUsage=critical,keyCertSign,cRLSign"
for name in server client; do
    key $name
    openssl req -new -key "$tmp/$name.key" -subj "/CN=weft-$name" -out "$tmp/$name.csr"
    printf '%s\n' "subjectAltName=DNS:localhost,DNS:other.test,IP:127.0.0.1" "keyUsage=critical,digitalSignature" \
        "basicConstraints=CA:FALSE" "authorityKeyIdentifier=keyid" "subjectKeyIdentifier=hash" > "$tmp/ext"
    openssl x509 -req -in "$tmp/$name.csr" -CA ca.pem -CAkey "$tmp/ca.key" -CAcreateserial -CAserial "$tmp/serial" \
        -days 36500 -sha256 -extfile "$tmp/ext" -out "$tmp/$name.crt"
    cat "$tmp/$name.crt" "$tmp/$name.key" > $name.pem
done
