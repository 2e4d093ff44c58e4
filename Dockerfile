FROM rust:1-bookworm AS build
WORKDIR /pgring
COPY Cargo.toml Cargo.lock ./
COPY benches benches
COPY src src
RUN cargo build --release --locked --bin pgring

FROM debian:bookworm-slim
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin pgring
COPY --from=build /pgring/target/release/pgring /usr/local/bin/pgring
USER pgring
EXPOSE 6432 9464
# perl is part of the base system; a shell and curl are not needed.
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s CMD ["perl", "-MIO::Socket::INET", "-e", \
    "my $s = IO::Socket::INET->new(PeerAddr => '127.0.0.1:9464', Timeout => 2) or exit 1; \
     print $s \"GET /healthz HTTP/1.0\\r\\nHost: localhost\\r\\n\\r\\n\"; \
     exit(<$s> =~ m{^HTTP/1\\.[01] 200} ? 0 : 1)"]
ENTRYPOINT ["pgring"]
CMD ["serve", "--config", "/etc/pgring/pgring.toml"]
