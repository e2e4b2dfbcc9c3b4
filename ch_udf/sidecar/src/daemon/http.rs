//! Serves `/healthz`, `/metrics`, `/v1/wallets` and `/v1/query`, by HTTPS if there is a
//! certificate, and to those who have a token if there are some. Owns the limits on clients: none
//! of them may hold a connection for long, and all of them together only a few descriptors, which
//! the feed needs.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use hyper::rt::{Read, Write};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinHandle, JoinSet};

use tokio_rustls::TlsAcceptor;
use utoipa::OpenApi;

use super::health::Health;
use super::queries::{self, QueriesDocument};
use super::reload::Reloaded;
use super::tokens::Tokens;
use super::wallets::{self, Wallets, WalletsDocument};
use crate::error::SidecarError;
use crate::router::Router as QueryRouter;
use crate::servers::tls;
use crate::settings::Settings;

/// Open connections. One more ends the oldest, so that a client that is quick gets an answer while
/// others keep connections open.
const MAX_CONNECTIONS: usize = 64;

/// Time limit for a TLS handshake, and for the headers of a request.
const HEADER_LIMIT: Duration = Duration::from_secs(5);

/// Time limit for a connection, which serves one request.
const CONNECTION_LIMIT: Duration = Duration::from_secs(10);

/// Size limit of a request's headers; hyper accepts no smaller buffer than 8 KiB.
const MAX_HEADER_BYTES: usize = 16 * 1024;

/// Pause after a failed accept, for example without free descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Certificate of the listener; `None`: plain HTTP.
type Certificate = Option<Arc<Reloaded<TlsAcceptor>>>;

/// Listens on `host:port`, and answers until the daemon stops.
///
/// # Errors
/// [`SidecarError::PortTaken`], and those of the files of certificate and tokens.
pub(super) async fn serve(
    address: &str,
    settings: &Settings,
    health: Arc<Health>,
    mut stopping: watch::Receiver<bool>,
) -> Result<JoinHandle<()>, SidecarError> {
    let taken = |source| SidecarError::PortTaken { address: address.to_owned(), source };
    let certificate = certificate(address, settings)?;
    let listener = TcpListener::bind(address).await.map_err(taken)?;
    let bound = listener.local_addr().map_err(taken)?;
    let wallets = Arc::new(Wallets::connect(settings).await?);
    let query_router = Arc::new(QueryRouter::new(settings));
    let mut router = Router::new().route("/healthz", get(healthz)).route("/metrics", get(metrics)).with_state((
        health,
        Arc::clone(&wallets),
        Arc::clone(&query_router),
    ));
    // Profiles are for those who have a token, and for users of this machine.
    if bound.ip().is_loopback() || settings.listen_token_file.is_some() {
        let document = get(async || Json(WalletsDocument::openapi().merge_from(QueriesDocument::openapi())));
        router = router
            .merge(wallets::router(wallets))
            .merge(queries::routes(query_router))
            .route("/v1/openapi.json", document);
    } else {
        tracing::warn!(
            "/v1/wallets and /v1/query are not served: set listen_token_file, or listen on a loopback address"
        );
    }
    if let Some(path) = settings.listen_token_file.clone() {
        let tokens = Reloaded::new(vec![path.clone()], move || Tokens::read(&path))?;
        router = router.layer(middleware::from_fn_with_state(Arc::new(tokens), admit));
    }
    let scheme = if certificate.is_some() { "https" } else { "http" };
    tracing::info!(address = %bound, scheme, "serving /healthz and /metrics");
    if certificate.is_none() && settings.listen_token_file.is_some() && !bound.ip().is_loopback() {
        tracing::warn!("tokens cross the network unencrypted; set listen_certificate_file and listen_key_file");
    }
    let stopped = async move {
        // The sender is dropped only when the daemon has ended.
        let _ = stopping.wait_for(|stop| *stop).await;
    };
    Ok(tokio::spawn(answer_clients(listener, certificate, router, stopped)))
}

fn certificate(address: &str, settings: &Settings) -> Result<Certificate, SidecarError> {
    let Some(identity) = settings.listen_identity() else { return Ok(None) };
    let (files, address) = (vec![identity.certificate.clone(), identity.key.clone()], address.to_owned());
    let load = move || {
        tls::acceptor(&identity).map_err(|source| SidecarError::TlsFile {
            server: "clients of /healthz and /metrics",
            address: address.clone(),
            source: Box::new(source),
        })
    };
    Ok(Some(Arc::new(Reloaded::new(files, load)?)))
}

/// Answers requests without a valid token.
async fn admit(State(tokens): State<Arc<Reloaded<Tokens>>>, request: Request, next: Next) -> Response {
    if tokens.get().admit(request.headers()) {
        return next.run(request).await;
    }
    (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Bearer")], "a valid token is needed\n").into_response()
}

/// Accepts and serves connections until `stopped` completes.
async fn answer_clients(
    listener: TcpListener,
    certificate: Certificate,
    router: Router,
    stopped: impl Future<Output = ()>,
) {
    let mut stopped = std::pin::pin!(stopped);
    let mut connections = JoinSet::new();
    let mut open: VecDeque<AbortHandle> = VecDeque::with_capacity(MAX_CONNECTIONS);
    loop {
        let accepted = tokio::select! {
            () = &mut stopped => return,
            accepted = listener.accept() => accepted,
        };
        // Their outcomes are of no interest.
        while connections.try_join_next().is_some() {}
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::debug!(%error, "a connection was not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        open.retain(|connection| !connection.is_finished());
        if open.len() >= MAX_CONNECTIONS
            && let Some(oldest) = open.pop_front()
        {
            oldest.abort();
        }
        let acceptor = certificate.as_ref().map(|certificate| certificate.get());
        open.push_back(connections.spawn(serve_connection(stream, acceptor, router.clone())));
    }
}

async fn serve_connection(stream: TcpStream, acceptor: Option<Arc<TlsAcceptor>>, router: Router) {
    let serving = async {
        match acceptor {
            None => serve_request(TokioIo::new(stream), router).await,
            Some(acceptor) => match tokio::time::timeout(HEADER_LIMIT, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => serve_request(TokioIo::new(stream), router).await,
                Ok(Err(error)) => tracing::debug!(%error, "a client of /healthz and /metrics failed in its handshake"),
                Err(_) => tracing::debug!("a client of /healthz and /metrics was too slow in its handshake"),
            },
        }
    };
    if tokio::time::timeout(CONNECTION_LIMIT, serving).await.is_err() {
        tracing::debug!("a client of /healthz and /metrics was too slow");
    }
}

async fn serve_request(stream: impl Read + Write + Unpin + Send + 'static, router: Router) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_LIMIT)
        .max_buf_size(MAX_HEADER_BYTES)
        .keep_alive(false)
        .serve_connection(stream, TowerToHyperService::new(router));
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a client of /healthz and /metrics failed");
    }
}

/// Sources of the pages.
type Sources = (Arc<Health>, Arc<Wallets>, Arc<QueryRouter>);

async fn metrics(State((health, wallets, router)): State<Sources>) -> String {
    health.record_reads(wallets.reader().await.counts());
    health.record_routes(router.counts());
    health.metrics()
}

async fn healthz(State((health, ..)): State<Sources>) -> (StatusCode, Json<serde_json::Value>) {
    let (is_ok, report) = health.report();
    (if is_ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, Json(report))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    async fn start() -> (std::net::SocketAddr, JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().route("/healthz", get(async || "fine"));
        (address, tokio::spawn(answer_clients(listener, None, router, std::future::pending())))
    }

    async fn request(address: std::net::SocketAddr, text: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut answer = String::new();
        // A server that does not read the rest of a request may reset the connection.
        let _ = stream.read_to_string(&mut answer).await;
        answer
    }

    const HEALTH: &str = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";

    #[tokio::test]
    async fn half_requests_hold_few_connections_and_no_client_up() {
        let (address, server) = start().await;
        let mut halves = Vec::new();
        for _ in 0..4 * MAX_CONNECTIONS {
            let mut half = TcpStream::connect(address).await.unwrap();
            half.write_all(b"GET /healthz HTTP/1.1\r\nHost:").await.unwrap();
            halves.push(half);
        }
        let started = Instant::now();
        let answer = request(address, HEALTH).await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("fine"), "{answer}");
        assert!(started.elapsed() < HEADER_LIMIT, "{:?}", started.elapsed());
        // All but the newest have been closed: reading from them ends at once.
        let mut closed = 0;
        for half in &mut halves {
            let read = tokio::time::timeout(Duration::from_millis(5), half.read(&mut [0; 16])).await;
            closed += usize::from(read.is_ok());
        }
        assert!(closed >= 3 * MAX_CONNECTIONS, "{closed} closed");
        server.abort();
    }

    #[tokio::test]
    async fn slow_headers_large_headers_and_bodies_are_not_waited_for() {
        let (address, server) = start().await;
        let started = Instant::now();
        let mut slow = TcpStream::connect(address).await.unwrap();
        slow.write_all(b"GET /healthz HTTP/1.1\r\n").await.unwrap();
        let mut rest = Vec::new();
        let _ = slow.read_to_end(&mut rest).await;
        let elapsed = started.elapsed();
        assert!(elapsed < CONNECTION_LIMIT, "{elapsed:?}");
        let large = format!("GET /healthz HTTP/1.1\r\nHost: x\r\nx: {}\r\n\r\n", "y".repeat(4 * MAX_HEADER_BYTES));
        assert!(!request(address, &large).await.starts_with("HTTP/1.1 200"));
        let body = "GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\nabc";
        assert!(request(address, body).await.contains("fine"));
        let twice = [HEALTH, HEALTH].concat();
        assert_eq!(request(address, &twice).await.matches("fine").count(), 1, "a connection serves one request");
        server.abort();
    }
}
