// A figure that is played: its lines grow with a clock that a person starts, stops, drags and speeds up. All of it
// happens in the browser. The figure says with `meta` which traces grow and which marks stand at their ends, and
// `data.replay` holds the clock's end, its unit and what to say from when on. See kdcore/figures/race.py.

const TICK = 33 // milliseconds between two pictures, at the least
const LOST = 250 // a longer gap between two pictures (another tab was in front) does not count
const SHORTEST = 2, USUAL = 12 // seconds a whole replay takes at the highest speed, and at first

const replays = new WeakMap() // the plot's element -> { clock, end, comments, lines, heads, playing, ... }

function replay(frame, place, data) {
  if (!data.replay) return
  const race = replays.get(place) ?? {}
  const { end, comments, unit } = data.replay
  const same = race.revision === data.revision && race.end === end && race.unit === unit
  Object.assign(race, { end, comments, unit, revision: data.revision, clock: same ? race.clock : end }, tracks(place))
  replays.set(place, race)
  if (!race.bar) controls(frame, place, race)
  if (!same) speeds(race)
  race.slider.max = end
  race.slider.step = end / 1000
  show(place, race)
}

function tracks(place) {
  const of = (word) => place._fullData.flatMap((trace, index) =>
    (trace.meta === word ? [{ index, x: Array.from(trace.x ?? []), y: Array.from(trace.y ?? []) }] : []))
  return { lines: of("race line"), heads: of("race head") }
}

function controls(frame, place, race) {
  const make = (tag, name, more = {}) => Object.assign(document.createElement(tag), { className: name, ...more })
  race.bar = make("div", "kd-replay")
  race.button = make("button", "kd-replay-play", { type: "button", textContent: "Play" })
  race.rate = make("select", "kd-replay-speed")
  race.slider = make("input", "kd-replay-clock", { type: "range", min: 0 })
  race.clockWords = make("output", "kd-replay-now")
  race.words = make("p", "kd-replay-words")
  race.words.setAttribute("aria-live", "polite")
  race.slider.setAttribute("aria-label", "Training clock")
  const speed = make("label", "kd-replay-rate", { textContent: "Speed " })
  speed.append(race.rate)
  race.bar.append(race.button, speed, race.clockWords, race.slider)
  frame.append(race.bar, race.words)
  race.button.onclick = () => (race.playing ? pause(race) : play(place, race))
  race.slider.oninput = () => {
    pause(race)
    race.clock = Number(race.slider.value)
    show(place, race)
  }
}

function speeds(race) {
  const rates = [1, 2, 5].flatMap((digit) => [1, 10, 100, 1000].map((power) => digit * power))
    .filter((rate) => rate === 1 || race.end / rate >= SHORTEST).sort((one, other) => one - other)
  const usual = rates.findLast((rate) => rate === 1 || race.end / rate >= USUAL)
  race.rate.replaceChildren(...rates.map((rate) => new Option(race.unit === "step" ? `${rate} steps/s` : `${rate}×`, rate, false, rate === usual)))
}

function play(place, race) {
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) return
  if (race.clock >= race.end) race.clock = 0
  race.playing = true
  race.button.textContent = "Pause"
  race.words.setAttribute("aria-live", "off") // a screen reader would be read to without an end
  let before = performance.now()
  const tick = (now) => {
    if (!race.playing || !place.isConnected) return
    requestAnimationFrame(tick)
    if (now - before < TICK || kept.get(place)?.pressed) return // a zoom under way is not drawn over
    race.clock = Math.min(race.end, race.clock + (Math.min(now - before, LOST) / 1000) * Number(race.rate.value))
    before = now
    show(place, race)
    if (race.clock >= race.end) pause(race)
  }
  requestAnimationFrame(tick)
}

function pause(race) {
  race.playing = false
  race.button.textContent = "Play"
  race.words.setAttribute("aria-live", "polite")
}

function show(place, race) {
  const lines = race.lines.map((line) => upTo(line, race.clock))
  const ends = lines.map(({ x, y }) => ({ x: x.slice(-1), y: y.slice(-1) }))
  const traces = [...race.lines, ...race.heads].map((one) => one.index)
  const still = { mode: "immediate", frame: { duration: 0, redraw: false }, transition: { duration: 0 } }
  window.Plotly.animate(place, { data: [...lines, ...ends], traces }, still)
    .catch(() => {}) // the next picture took its place
  const words = race.comments.findLast(([from]) => from <= race.clock)?.[1] ?? ""
  if (race.words.textContent !== words) race.words.textContent = words
  race.slider.value = race.clock
  race.clockWords.textContent = moment(race)
  race.slider.setAttribute("aria-valuetext", `${moment(race)}: ${words}`)
}

// What was logged up to the clock, held until the clock or the line's own end.
function upTo({ x, y }, clock) {
  const last = x.length - 1
  const count = x.findIndex((at, number) => number === last || at > clock)
  if (count < 1) return { x: [], y: [] }
  return { x: [...x.slice(0, count), Math.min(clock, x[last])], y: [...y.slice(0, count), y[count - 1]] }
}

function moment({ clock: seconds, unit }) {
  if (unit === "step") return `step ${Math.round(seconds)}`
  if (seconds < 60) return `${seconds.toFixed(1)} s`
  const whole = Math.round(seconds), two = (number) => String(number).padStart(2, "0")
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${two(whole % 60)} s`
  return `${Math.floor(whole / 3600)} h ${two(Math.floor((whole % 3600) / 60))} min`
}
