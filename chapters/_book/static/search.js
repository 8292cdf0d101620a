// A book that is opened from a file may not read its own pages: hits come without extracts.
if (location.protocol === 'file:' && location.pathname.endsWith('/search.html')) {
  window.fetch = () => Promise.resolve(new Response(''));
  document.addEventListener('DOMContentLoaded', () => {
    const note = document.createElement('p');
    note.className = 'search-note';
    note.innerHTML = 'You opened the book from a file: the search lists the pages that it finds, ' +
      'without extracts. It shows extracts when a server shows the book: ' +
      '<code>python -m http.server -d build/book</code>';
    document.querySelector('#search-results').before(note);
  });
}
