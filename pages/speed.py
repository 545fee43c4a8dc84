"""speed."""

import streamlit as st

st.title("speed")
