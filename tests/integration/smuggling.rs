mod refused;
mod rig;
mod understood;
