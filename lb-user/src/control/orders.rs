//! Who may ask over HTTP, and orders for real servers. They are taken only where a password
//! is asked for, and not from pages of other sites, with which a browser would send it, too.

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Request as HttpRequest, State};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response as HttpResponse};
use serde::{Deserialize, Serialize};
use service_kit::{Credentials, is_of_own_site};

use super::calls::call;
use super::http::HttpState;
use super::protocol::{Order, Request, Response};

/// Lets a request pass that has the password, where one is asked for.
pub(super) async fn guard(
    State(state): State<HttpState>,
    request: HttpRequest,
    next: Next,
) -> HttpResponse {
    let auth = state.auth.as_deref();
    if auth.is_none_or(|auth| auth.admit(request.headers())) {
        next.run(request).await
    } else {
        Credentials::challenge()
    }
}

/// An order for a server.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GivenOrder {
    /// `ADDRESS` or `ADDRESS:PORT`
    server: String,
    /// `null`, which is not left out: as configured.
    #[serde(deserialize_with = "Option::deserialize")]
    order: Option<Order>,
}

/// What an order has changed.
#[derive(Debug, Serialize)]
struct Done {
    done: Vec<String>,
}

/// Carries an order out.
pub(super) async fn give(
    State(state): State<HttpState>,
    headers: HeaderMap,
    // It must say that it is JSON, for which a page of another site needs a permission (CORS)
    // that nobody gives.
    given: Result<Json<GivenOrder>, JsonRejection>,
) -> HttpResponse {
    if state.auth.is_none() {
        let reason = "no orders are taken over HTTP without --http-auth\n";
        return (StatusCode::FORBIDDEN, reason).into_response();
    }
    if !is_of_own_site(&headers) {
        return (StatusCode::FORBIDDEN, "not from other sites\n").into_response();
    }
    let Json(GivenOrder { server, order }) = match given {
        Ok(given) => given,
        Err(rejection) => return rejection.into_response(),
    };
    match call(Request::Order { server, order }, &state.calls).await {
        Response::Done(done) => Json(Done { done }).into_response(),
        Response::Refused(reason) => (StatusCode::CONFLICT, reason + "\n").into_response(),
        _ => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
