//! `walcast listen`: a terminal client over the public WebSocket.
