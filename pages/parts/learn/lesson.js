// The arrow keys go to the next and previous step, and each step begins with its figure on top of the screen.
const KEYS = { ArrowRight: "next", ArrowLeft: "previous" };
const OWN_KEYS = "input, textarea, select, [contenteditable=true], [role=slider], [role=radio], [role=tab]";

export default function ({ data }) {
  if (!window.kdLessonKeys) {
    window.kdLessonKeys = true;
    document.addEventListener("keydown", (event) => {
      const side = KEYS[event.key];
      if (!side || event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
      if (event.target.closest?.(OWN_KEYS)) return;
      document.querySelector(`.st-key-lesson_${side} a`)?.click();
    });
  }
  if (window.kdLessonStep !== data.step) {
    window.kdLessonStep = data.step;
    keepInView(data.figure, data.step);
  }
}

// What is drawn later moves the figure, so it is followed until a person scrolls, or for some seconds.
function keepInView(key, step) {
  let by_hand = false;
  const stop = () => { by_hand = true; };
  for (const kind of ["wheel", "touchmove", "pointerdown", "keydown"]) {
    window.addEventListener(kind, stop, { once: true, passive: true });
  }
  const until = Date.now() + 6000;
  const timer = setInterval(() => {
    if (by_hand || Date.now() > until || window.kdLessonStep !== step) { clearInterval(timer); return; }
    const main = document.querySelector("[data-testid=stMain]");
    const figure = document.querySelector(`.st-key-${key}`);
    if (!main || !figure || window.innerWidth < 1100) return;
    const [above, box] = [main.getBoundingClientRect().top, figure.getBoundingClientRect()];
    const out = box.bottom > window.innerHeight || box.top < above;
    if (out && box.height) main.scrollTop += box.top - above - 24;
  }, 150);
}
