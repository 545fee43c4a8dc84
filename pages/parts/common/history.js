// Streamlit pushes an entry into the browser's history whenever a script run writes the address, so Back would first
// undo what the page itself wrote. Here a new address of the same page replaces the old one. Steps of a lesson and
// parts of a page that a person goes through one by one stay entries of their own.
const OWN_ENTRY = ["lesson", "step", "part"];

export default function () {
  if (window.kdHistory) return;
  window.kdHistory = true;
  const push = history.pushState.bind(history);
  history.pushState = (state, title, address) => {
    const [from, to] = [new URL(location.href), new URL(address ?? location.href, location.href)];
    const moved = from.pathname !== to.pathname || OWN_ENTRY.some((name) => differs(name, from, to));
    if (moved) push(state, title, address);
    else history.replaceState(state, title, address);
  };
}

// A parameter that was not there before is the page's own first word on it.
function differs(name, from, to) {
  const before = from.searchParams.get(name);
  return before !== null && before !== to.searchParams.get(name);
}
