// Draws the page's plots in the colours of the reader's screen, and in light ones for paper.
(() => {
  const dark = matchMedia("(prefers-color-scheme: dark)")
  const paper = 660 // pixels between the margins of a page
  const narrow = 520 // pixels below which long names stand on two lines
  const folded = (name) => name.replace(", ", ",<br>")
  const draw = (printed) => {
    for (const place of document.querySelectorAll(".plot")) {
      const figures = JSON.parse(place.nextElementSibling.textContent)
      const { data, layout } = figures[dark.matches && !printed ? "dark" : "light"]
      const width = printed ? paper : place.clientWidth
      if (width < narrow && layout.yaxis.ticktext) layout.yaxis.ticktext = layout.yaxis.ticktext.map(folded)
      if (width < narrow) layout.xaxis.title.text = layout.xaxis.title.text.replace(" (", "<br>(")
      Plotly.react(place, data, { ...layout, width, autosize: false }, { displaylogo: false, displayModeBar: false })
    }
  }
  draw(false)
  dark.addEventListener("change", () => draw(false))
  addEventListener("resize", () => draw(false))
  addEventListener("beforeprint", () => draw(true))
  addEventListener("afterprint", () => draw(false))
})()
