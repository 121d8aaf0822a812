//! smtpflow
