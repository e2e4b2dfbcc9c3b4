//! Serves `/healthz` and `/metrics`.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::health::Health;
use crate::error::SidecarError;

/// Listens on `host:port`, and answers until the daemon stops.
pub(super) async fn serve(
    address: &str,
    health: Arc<Health>,
    mut stopping: watch::Receiver<bool>,
) -> Result<JoinHandle<()>, SidecarError> {
    let taken = |source| SidecarError::PortTaken { address: address.to_owned(), source };
    let listener = TcpListener::bind(address).await.map_err(taken)?;
    let bound = listener.local_addr().map_err(taken)?;
    tracing::info!(address = %bound, "serving /healthz and /metrics");
    let router = Router::new()
        .route("/healthz", get(healthz))
        .route("/metrics", get(async |State(health): State<Arc<Health>>| health.metrics()))
        .with_state(health);
    let stopped = async move {
        // The sender is dropped only when the daemon has ended.
        let _ = stopping.wait_for(|stop| *stop).await;
    };
    Ok(tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(stopped).await {
            tracing::error!(%error, "serving /healthz and /metrics failed");
        }
    }))
}

async fn healthz(State(health): State<Arc<Health>>) -> (StatusCode, Json<serde_json::Value>) {
    let (is_ok, report) = health.report();
    (if is_ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, Json(report))
}
