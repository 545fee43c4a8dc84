// One plot that stays the same object in the browser while its data change: Plotly.react draws what is new, and what a
// person did to it (zoom, hidden lines) stays as long as `data.revision` does. See plot.py.

const NARROW = 520 // pixels; below this the legend gets its own lines under the plot
const kept = new WeakMap() // the plot's element -> { answer, draw, shown, pressed, late, watch, leave }

const library = () => {
  window.kdPlotly ??= new Promise((done, failed) => {
    const script = document.createElement("script")
    script.src = new URL("app/static/plotly.min.js", document.baseURI).href
    script.onload = () => done(window.Plotly)
    script.onerror = () => {
      window.kdPlotly = undefined // the next plot tries again
      failed(new Error("The plot cannot be drawn: plotly.min.js could not be loaded. Reload the page."))
    }
    document.head.append(script)
  })
  return window.kdPlotly
}

export default function ({ data, parentElement, setTriggerValue }) {
  const frame = parentElement.querySelector(".kd-plot")
  const place = frame.querySelector(".kd-plot-figure")
  const state = kept.get(place) ?? {}
  kept.set(place, state)
  state.answer = data.clicks ? (click) => setTriggerValue("clicked", click) : null
  state.draw = async () => {
    if (state.pressed) return void (state.late = true)
    await draw(frame, place, data)
    state.shown = data
    if (place.isConnected) replay(frame, place, data)
  }
  place.setAttribute("role", "img")
  place.setAttribute("aria-label", data.alt)
  place.style.height ||= `${data.height}px` // until it is drawn; a narrow plot then takes more
  library()
    .then(() => place.isConnected && !same(state.shown, data) && state.draw())
    .then(() => place.isConnected && listen(frame, place, state))
    .catch((error) => { place.textContent = error.message })
  for (const button of frame.querySelectorAll("button")) {
    button.onclick = () => (button.dataset.do === "reset" ? reset(place) : save(place, data, button.dataset.do))
  }
  return () => {
    state.watch?.disconnect()
    state.leave?.abort()
    kept.delete(place)
    window.Plotly?.purge(place)
  }
}

// A page that follows a run says at every look what it shows; mostly nothing of it is new.
const same = (before, now) =>
  before && !now.replay && ["figure", "points", "height", "revision", "clicks", "readout"].every((name) => before[name] === now[name])

// Traces and layout. On a page that follows a run the figure stays and its points come apart from it.
function read(data) {
  const figure = JSON.parse(data.figure)
  if (data.points) JSON.parse(data.points).forEach((points, at) => Object.assign(figure.data[at], points))
  if (data.readout) for (const trace of figure.data.filter((one) => one.customdata)) {
    delete trace.hovertemplate // said under the plot, where nothing cuts it
    trace.hoverinfo = "none"
  }
  return figure
}

function draw(frame, place, data) {
  const { data: traces, layout } = read(data)
  const touch = matchMedia("(pointer: coarse)").matches
  layout.autosize = true
  layout.uirevision = data.revision
  layout.dragmode = touch ? false : "zoom" // a finger that scrolls the page must not zoom the plot
  if (place.clientWidth < NARROW) narrow(place, traces, layout, data.height)
  else place.style.height = `${data.height}px`
  frame.classList.toggle("kd-plot-clicks", data.clicks)
  const line = frame.querySelector(".kd-plot-readout")
  line.hidden = !data.readout
  line.textContent = data.readout ?? ""
  return window.Plotly.react(place, traces, layout, { displayModeBar: false, doubleClick: "reset+autosize" })
}

// A long legend above a narrow plot would leave no plot: it goes below, and the element grows by its lines.
function narrow(place, traces, layout, height) {
  const shown = traces.filter((trace) => trace.showlegend !== false && trace.name && trace.type === "scatter")
  const legend = layout.showlegend !== false && (shown.length > 1 || shown.some((trace) => trace.showlegend))
  const lines = legend ? rows(shown, place.clientWidth) : 0
  if (lines) layout.legend = { ...layout.legend, orientation: "h", y: -0.02, yref: "container", yanchor: "bottom" }
  const words = layout.yaxis?.ticktext
  if (Array.isArray(words)) layout.yaxis = { ...layout.yaxis, ticktext: words.map(folded) }
  layout.height = height + 20 * lines
  place.style.height = `${layout.height}px`
}

// A long row name on two lines, broken at the space nearest its middle.
function folded(name) {
  const spaces = [...name.matchAll(/ /g)].map((found) => found.index)
  if (name.length < 18 || !spaces.length) return name
  const at = spaces.reduce((best, one) => (Math.abs(one - name.length / 2) < Math.abs(best - name.length / 2) ? one : best))
  return `${name.slice(0, at)}<br>${name.slice(at + 1)}`
}

// Lines that a legend takes, at about 7 pixels a letter and 48 for the sample. Plotly gives each entry one width.
function rows(traces, width) {
  const widest = Math.max(...traces.map((trace) => 7 * trace.name.length + 48))
  return Math.ceil(traces.length / Math.max(1, Math.floor(width / widest)))
}

function listen(frame, place, state) {
  if (state.watch) return
  let width = place.clientWidth
  state.watch = new ResizeObserver(() => {
    const now = place.clientWidth
    if (!now || now === width) return
    const crossed = now < NARROW !== width < NARROW || !width
    width = now
    if (crossed) state.draw()
    else window.Plotly.Plots.resize(place)
  })
  state.watch.observe(place)
  heed(place, state)
  place.on("plotly_click", (event) => state.answer?.(clicked(event.points[0])))
  place.on("plotly_hover", (event) => tell(frame, event.points[0]))
  place.on("plotly_relayout", () => frame.classList.toggle("kd-plot-zoomed", zoomed(place)))
  frame.dataset.ready = "" // drawn, and it answers
}

// A new picture between press and release would lose the click, or the zoom that is being drawn: it waits for the end.
function heed(place, state) {
  state.leave = new AbortController()
  const until = { capture: true, signal: state.leave.signal }
  const release = () => setTimeout(() => { // after Plotly has heard of it
    state.pressed = false
    if (state.late) state.draw()
    state.late = false
  })
  place.addEventListener("pointerdown", () => { state.pressed = true }, until)
  for (const end of ["pointerup", "pointercancel"]) window.addEventListener(end, release, until)
}

// The words of what is pointed at, in the line under a plot that has one.
function tell(frame, point) {
  const line = frame.querySelector(".kd-plot-readout")
  if (line.hidden || point.customdata === undefined) return
  const words = [].concat(point.customdata).join(" ") // with &, < and > as Plotly wants them
  line.textContent = words.replaceAll("&lt;", "<").replaceAll("&gt;", ">").replaceAll("&amp;", "&")
}

// What was clicked, in words that Python reads. A heat map's cell has a row and a column, a point has a number.
function clicked(point) {
  const cell = Array.isArray(point.pointNumber) ? point.pointNumber : [null, null]
  return {
    curve: point.curveNumber,
    name: point.data.name ?? "",
    point: cell[0] === null ? point.pointNumber : null,
    row: cell[0],
    column: cell[1],
    x: point.x,
    y: point.y,
    value: point.z ?? null,
    custom: point.customdata === undefined ? [] : Array.from([].concat(plain(point.customdata))),
  }
}

const plain = (value) => (ArrayBuffer.isView(value) ? Array.from(value) : value)

const axes = (layout) => Object.keys(layout).filter((name) => /^[xy]axis\d*$/.test(name))

function zoomed(place) {
  return axes(place._fullLayout).some((name) => {
    const axis = place._fullLayout[name]
    const before = axis._rangeInitial0 === undefined ? null : [axis._rangeInitial0, axis._rangeInitial1]
    return before ? before.some((end, at) => end !== axis.range[at]) : !axis.autorange
  })
}

function reset(place) {
  const change = {}
  for (const name of axes(place._fullLayout)) {
    const axis = place._fullLayout[name]
    const fixed = axis._rangeInitial0 !== undefined && axis._autorangeInitial === undefined
    if (fixed) change[`${name}.range`] = [axis._rangeInitial0, axis._rangeInitial1]
    else change[`${name}.autorange`] = axis._autorangeInitial ?? true
  }
  window.Plotly.relayout(place, change)
}

// As a file the picture stands on the page's colour, wide enough for its legend.
function save(place, data, format) {
  const { data: traces, layout } = read(data)
  const seen = place._fullLayout
  for (const name of axes(seen)) layout[name] = { ...layout[name], range: [...seen[name].range], autorange: false }
  traces.forEach((trace, at) => { trace.visible = place._fullData[at]?.visible ?? trace.visible })
  layout.paper_bgcolor = getComputedStyle(place).getPropertyValue("--st-background-color").trim() || "#FFFFFF"
  layout.font = { ...layout.font, family: "Arial, Helvetica, sans-serif" } // a file cannot bring the page's own font
  const { l, r, b, t } = seen._size
  layout.margin = { ...layout.margin, l: l + 16, r: r + 16, b: b + 16, t: t + 16 }
  const size = { width: Math.max(900, place.clientWidth), height: data.height + 40 }
  delete layout.height
  window.Plotly.downloadImage({ data: traces, layout }, { format, scale: 2, filename: data.file, ...size })
}
