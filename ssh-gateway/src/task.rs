//! One session's task: orders of the broker, what is left of the session, its end.
