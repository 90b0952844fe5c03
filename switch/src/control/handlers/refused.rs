//! What a handler answers when it does not do what was asked: a status and one line.

use crate::control::apply::ChangeError;
use crate::slowpath::handle::Stopped;
use api::ErrorBody;
use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

/// A refused request: status and one line.
#[derive(Debug)]
pub struct Refused(StatusCode, String);

impl Refused {
    /// The line for a person.
    pub fn message(&self) -> &str {
        &self.1
    }

    /// What was asked for is wrong.
    pub fn bad(message: impl Into<String>) -> Refused {
        Refused(StatusCode::BAD_REQUEST, message.into())
    }

    /// What was asked for is not there.
    pub fn not_found(message: impl Into<String>) -> Refused {
        Refused(StatusCode::NOT_FOUND, message.into())
    }

    /// There is no room for it now.
    pub fn busy(message: impl Into<String>) -> Refused {
        Refused(StatusCode::SERVICE_UNAVAILABLE, message.into())
    }

    /// A worker or the slow path does not do its part.
    pub fn broken(message: impl Into<String>) -> Refused {
        Refused(StatusCode::INTERNAL_SERVER_ERROR, message.into())
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.0, Json(ErrorBody { error: self.1 })).into_response()
    }
}

impl From<Stopped> for Refused {
    fn from(error: Stopped) -> Refused {
        Refused(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
    }
}

impl From<ChangeError> for Refused {
    fn from(error: ChangeError) -> Refused {
        let status = match &error {
            ChangeError::Invalid(_) | ChangeError::Rule(..) => StatusCode::BAD_REQUEST,
            ChangeError::NeedsRestart | ChangeError::Device(_) | ChangeError::NoMeter(_) => {
                StatusCode::CONFLICT
            }
            ChangeError::Full(_) => StatusCode::INTERNAL_SERVER_ERROR,
            ChangeError::Stopping(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        Refused(status, error.to_string())
    }
}

/// An answer, or why there is none.
pub type Answer<T> = Result<Json<T>, Refused>;
