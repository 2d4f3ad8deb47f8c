//! RGFT's reports: pure consumers of a run's events
