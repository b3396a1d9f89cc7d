// Draws a dashboard file with Grafana's own panels, from a Prometheus that is at hand.
//
// The panels are Grafana's library @grafana/ui. Written here is what a Grafana does around them: it
// asks for the numbers, names the series and lays the panels out. The page's query says what of:
// `prometheus`, `start`, `end` and `step` (seconds), and how many `rows` from the top.
// Its title ends as "drawn", or as what went wrong.
import { createRoot } from 'react-dom/client';
import {
  FieldColorModeId,
  FieldType,
  LoadingState,
  ThemeContext,
  createTheme,
  getDisplayProcessor,
} from '@grafana/data';
import { BigValue, GlobalStyles, PanelChrome, TimeSeries } from '@grafana/ui';

const THEME = createTheme({ colors: { mode: 'dark' } });
const COLUMNS = 24;
const WIDTH = 1600;
const GAP = 8;
const CELL = 30 + GAP; // one unit of a panel's height

// What Grafana's time series panel takes where the file says nothing.
const LINE = {
  drawStyle: 'line',
  lineInterpolation: 'linear',
  lineWidth: 1,
  gradientMode: 'none',
  axisPlacement: 'auto',
  scaleDistribution: { type: 'linear' },
  stacking: { mode: 'none', group: 'A' },
  hideFrom: { legend: false, tooltip: false, viz: false },
};

const view = new URLSearchParams(location.search);
const [start, end, step] = ['start', 'end', 'step'].map((name) => Number(view.get(name)));
const TIMES = Array.from({ length: Math.floor((end - start) / step) + 1 }, (_, n) => start + n * step);
const RANGE = { from: new Date(start * 1000), to: new Date(end * 1000) };
const CHOSEN = {
  $job: '.*',
  $instance: '.*',
  $provider: '.*',
  $__rate_interval: `${4 * step}s`,
  $__range: `${end - start}s`,
};

async function seriesOf({ expr, legendFormat }) {
  const query = Object.entries(CHOSEN).reduce((text, [name, value]) => text.replaceAll(name, value), expr);
  const question = new URLSearchParams({ query, start, end, step });
  const answer = await (await fetch(`${view.get('prometheus')}/api/v1/query_range?${question}`)).json();
  if (answer.status !== 'success') throw new Error(`${query}: ${answer.error}`);
  return answer.data.result.map(({ metric, values }) => ({
    name: legendFormat.replaceAll(/{{(\w+)}}/g, (_, label) => metric[label] ?? ''),
    numbers: new Map(values.filter(([, number]) => number !== 'NaN').map(([at, number]) => [at, Number(number)])),
  }));
}

function frameOf({ name, numbers }, seriesIndex, { custom, ...defaults }) {
  const times = { name: 'Time', type: FieldType.time, config: {}, values: TIMES.map((at) => at * 1000) };
  const values = {
    name,
    type: FieldType.number,
    config: { color: { mode: FieldColorModeId.PaletteClassic }, ...defaults, custom: { ...LINE, ...custom } },
    state: { seriesIndex, displayName: name },
    values: TIMES.map((at) => numbers.get(at) ?? null),
  };
  for (const field of [times, values]) field.display = getDisplayProcessor({ field, theme: THEME });
  return { fields: [times, values], length: TIMES.length };
}

async function framesOf({ type, targets, fieldConfig }) {
  if (type === 'row') return [];
  const series = (await Promise.all(targets.map(seriesOf))).flat();
  return series.map((each, index) => frameOf(each, index, fieldConfig.defaults));
}

function Lines({ frames, options, ...size }) {
  const legend = { ...options.legend, calcs: [] };
  return <TimeSeries {...size} frames={frames} timeRange={RANGE} timeZone="utc" legend={legend} />;
}

function LastNumber({ frames, options, ...size }) {
  const { values, display } = frames[0].fields[1];
  const last = values.findLast((number) => number !== null);
  const { colorMode, graphMode } = options;
  return <BigValue {...size} theme={THEME} value={display(last)} colorMode={colorMode} graphMode={graphMode} />;
}

const KINDS = { timeseries: Lines, stat: LastNumber };

function Panel({ panel: { type, title, options, gridPos }, frames }) {
  const column = (WIDTH + GAP) / COLUMNS;
  const place = { position: 'absolute', left: gridPos.x * column, top: gridPos.y * CELL };
  if (type === 'row') return <h6 style={{ ...place, margin: GAP }}>⌄ {title}</h6>;
  const Kind = KINDS[type];
  return (
    <div style={place}>
      <PanelChrome
        title={title}
        width={gridPos.w * column - GAP}
        height={gridPos.h * CELL - GAP}
        loadingState={LoadingState.Done}
      >
        {(width, height) => <Kind frames={frames} options={options} width={width} height={height} />}
      </PanelChrome>
    </div>
  );
}

function tellWhenDrawn(lines) {
  const next = document.querySelectorAll('canvas').length < lines
    ? () => tellWhenDrawn(lines)
    : () => requestAnimationFrame(() => { document.title = 'drawn'; });
  requestAnimationFrame(next);
}

async function draw() {
  const { panels } = await (await fetch('dashboard.json')).json();
  const tops = panels.filter(({ type }) => type === 'row').map(({ gridPos }) => gridPos.y);
  const bottom = tops[view.get('rows')] ?? Math.max(...panels.map(({ gridPos: { y, h } }) => y + h));
  const shown = panels.filter(({ gridPos }) => gridPos.y < bottom);
  const frames = await Promise.all(shown.map(framesOf));
  document.body.style.cssText = `margin: ${2 * GAP}px; background: ${THEME.colors.background.canvas}`;
  const root = document.getElementById('dashboard');
  root.style.cssText = `position: relative; width: ${WIDTH}px; height: ${bottom * CELL}px`;
  createRoot(root).render(
    <ThemeContext.Provider value={THEME}>
      <GlobalStyles />
      {shown.map((panel, index) => <Panel key={panel.id} panel={panel} frames={frames[index]} />)}
    </ThemeContext.Provider>,
  );
  tellWhenDrawn(shown.filter(({ type }) => type === 'timeseries').length);
}

draw().catch((error) => { document.title = String(error); });
