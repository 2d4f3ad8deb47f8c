//! RGFT's method without tensors: components, error map, planner, ledger
