//! (room `telemetry`)
