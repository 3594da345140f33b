# The product's image, as `cargo xtask image` makes it without an engine: one
# static program, certificate authorities, a user that no machine has.
FROM rust:1.95-bookworm AS build
WORKDIR /source
COPY . .
RUN cargo rustc --locked --release --package perennial --bin perennial -- -Ctarget-feature=+crt-static -Cstrip=symbols \
    && mkdir -p /image/etc/ssl/certs \
    && cp target/release/perennial /image/ \
    && cp /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/ \
    && printf 'root:x:0:0:root:/:/sbin/nologin\nperennial:x:65532:65532:perennial:/tmp:/sbin/nologin\n' >/image/etc/passwd \
    && printf 'root:x:0:\nperennial:x:65532:\n' >/image/etc/group \
    && install -d -m 1777 /image/tmp

FROM scratch
COPY --from=build /image /
ENV HOME=/tmp
USER 65532:65532
ENTRYPOINT ["/perennial"]
CMD ["--help"]
