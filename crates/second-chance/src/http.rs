//! Metrics over HTTP.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use lb_dataplane::second_chance::{Counts, SecondChance};
use service_kit::http::DEFAULT_LIMITS;
use service_kit::metrics::{CONTENT_TYPE, Exposition, Kind, Labels};
use tokio::net::TcpListener;

/// What is shown.
#[derive(Clone)]
pub(crate) struct Shown {
    pub(crate) data_plane: Arc<Mutex<SecondChance>>,
    /// The directors, and which of them answer.
    pub(crate) directors: Arc<Mutex<Vec<(String, bool)>>>,
}

/// Serves `/metrics` at `address`, for ever.
///
/// # Errors
/// The address is not ours, or in use.
pub(crate) async fn start(address: SocketAddr, shown: Shown) -> anyhow::Result<()> {
    let listener = TcpListener::bind(address).await.with_context(|| {
        format!("cannot serve HTTP on {address}; choose another address with --http")
    })?;
    let router = Router::new()
        .route("/metrics", get(metrics))
        .with_state(shown);
    tokio::spawn(service_kit::http::serve(listener, router, DEFAULT_LIMITS));
    Ok(())
}

async fn metrics(State(shown): State<Shown>) -> Response {
    let data_plane = shown.data_plane.lock();
    let counts = data_plane.unwrap_or_else(PoisonError::into_inner).counts();
    let directors = shown.directors.lock();
    let directors = directors.unwrap_or_else(PoisonError::into_inner).clone();
    match counts {
        Ok(counts) => (
            [(header::CONTENT_TYPE, CONTENT_TYPE)],
            render(&counts, &directors),
        )
            .into_response(),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")).into_response(),
    }
}

fn render(counts: &Counts, directors: &[(String, bool)]) -> String {
    let mut text = Exposition::default();
    let mut family = text.family(
        "millrace_second_chance_passed_on_total",
        Kind::Counter,
        "Packets passed on to another server, by the generation of the table that named it.",
    );
    for (generation, count) in counts.passed_on.iter().enumerate() {
        family.sample(&Labels::new(&[("generation", &generation)]), count);
    }
    text.family(
        "millrace_second_chance_no_target_total",
        Kind::Counter,
        "Packets of no connection here for which no server was left: the stack has answered.",
    )
    .value(counts.no_target);
    text.family(
        "millrace_second_chance_hops_exceeded_total",
        Kind::Counter,
        "Packets that had no hop left.",
    )
    .value(counts.hops_exceeded);
    let mut family = text.family(
        "millrace_second_chance_director_up",
        Kind::Gauge,
        "1 if the director tells its tables.",
    );
    for (director, is_up) in directors {
        let labels = Labels::new(&[("director", director)]);
        family.sample(&labels, u8::from(*is_up));
    }
    text.into_text()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_name_generations_and_directors() {
        let counts = Counts {
            passed_on: vec![3, 4],
            no_target: 5,
            hops_exceeded: 6,
        };
        let text = render(&counts, &[("10.0.0.1:9101".to_owned(), true)]);
        for line in [
            "millrace_second_chance_passed_on_total{generation=\"1\"} 4",
            "millrace_second_chance_no_target_total 5",
            "millrace_second_chance_hops_exceeded_total 6",
            "millrace_second_chance_director_up{director=\"10.0.0.1:9101\"} 1",
        ] {
            assert!(text.lines().any(|given| given == line), "{line}: {text}");
        }
    }
}
